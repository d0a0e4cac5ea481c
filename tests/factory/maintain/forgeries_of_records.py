"""Forged records: indexes, sidecars, plans, identities, recipes, manifests; and what cannot be known."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from actors.images import encode_mask, read_mask
from factory.output.rebuild import rebuild
from factory.store.storage import Storage
from tests.factory.maintain.forger import (
    FIRST,
    INDEX,
    REJECTED,
    SIDECAR,
    TAR,
    THIRD,
    change_both,
    change_document,
    change_index,
    change_plan,
    change_sidecar,
    change_tar,
    members,
    other_image,
    packed,
    put_tar,
)
from tests.factory.maintain.forgery import FORGERIES, Forgery, forged, unknowable


@forged(f"{INDEX} {FIRST}", "verified with change_inside 1.0 and change_outside 0.5")
def verified_beyond_the_limits(storage: Storage) -> None:
    change_both(storage, FIRST, change_outside=0.5)


@forged(f"{INDEX} {FIRST}", "not verified; the recipe rejects such samples")
def not_verified(storage: Storage) -> None:
    change_both(storage, FIRST, verified=False)
    change_sidecar(storage, lambda document: document.update(unverified=1))


@forged(f"{INDEX} {FIRST}", "its source is 'memory://9.png', the plan has 'memory://0.png'")
def source_changed_everywhere_but_in_the_plan(storage: Storage) -> None:
    change_both(storage, FIRST, source="memory://9.png")


@forged(INDEX, "its keys are not those of the plan")
def rows_swapped(storage: Storage) -> None:
    change_index(storage, lambda rows: rows.reverse())


@forged(INDEX, "its keys are not those of the plan")
def row_left_out(storage: Storage) -> None:
    change_index(storage, lambda rows: rows.pop() and None)


@forged(f"{TAR} {FIRST}", "in the tar, but not accepted in the index")
def accepted_row_made_a_reject(storage: Storage) -> None:
    def change(rows: list[dict[str, Any]]) -> None:
        rows[0].update(status="rejected", stage="verify", reason="unchanged", detail="nothing changed")

    change_index(storage, change)
    change_sidecar(storage, lambda one: one.update(accepted=2, rejected=2, reasons={"unchanged": 2}))


@forged(f"{INDEX} {REJECTED}", "rejected without a reason")
def reject_without_a_reason(storage: Storage) -> None:
    change_index(storage, lambda rows: rows[2].update(reason=""))


@forged(f"{INDEX} {REJECTED}", "its status is 'maybe'")
def status_unknown(storage: Storage) -> None:
    change_index(storage, lambda rows: rows[2].update(status="maybe"))


@forged(f"{INDEX} {FIRST}", "other columns than these filled: mask_area")
def metric_without_a_value(storage: Storage) -> None:
    change_index(storage, lambda rows: rows[0].update(mask_area=None))


@forged(f"{INDEX} {FIRST}", "no value for caption")
def caption_without_a_value(storage: Storage) -> None:
    change_index(storage, lambda rows: rows[0].update(caption=None))


@forged(f"{TAR} {FIRST}", "the index nan")
def metric_not_a_number_in_the_index(storage: Storage) -> None:
    change_index(storage, lambda rows: rows[0].update(difference_inside=float("nan")))


@forged("000000", "has other columns than this version writes")
def column_of_another_type(storage: Storage) -> None:
    schema = pq.read_schema(io.BytesIO(storage.read(INDEX)))
    place = schema.get_field_index("seed")
    change_index(storage, lambda rows: None, schema.set(place, pa.field("seed", pa.float64())))


@forged("000000", "has other columns than this version writes")
def column_added(storage: Storage) -> None:
    schema = pq.read_schema(io.BytesIO(storage.read(INDEX)))
    change_index(storage, lambda rows: None, schema.append(pa.field("licence", pa.string())))


for _name, _sidecar, _what in (
    ("reasons", {"reasons": {"damaged": 1}}, "reasons is {'damaged': 1}, the index has {'unchanged': 1}"),
    ("unverified", {"unverified": 1}, "unverified is 1, the index has 0"),
    ("unet_rows", {"unet_rows": 0}, "unet_rows is 0, the index has 120"),
    ("accepted", {"accepted": 4, "rejected": 0}, "accepted is 4, the index has 3"),
    ("digest", {"digest": "0" * 64}, "made by another recipe"),
    ("plan", {"plan_sha256": "0" * 64}, "made for another plan"),
):

    def _make_sidecar(storage: Storage, values: dict[str, Any] = _sidecar) -> None:
        change_sidecar(storage, lambda document: document.update(values))
        rebuild(storage)

    FORGERIES.append(Forgery(f"sidecar_with_other_{_name}", _make_sidecar, SIDECAR, _what))


@forged(SIDECAR, "not in the form in which it is written")
def sidecar_key_twice(storage: Storage) -> None:
    storage.replace(SIDECAR, storage.read(SIDECAR).replace(b"{", b'{"accepted":9,', 1))


@forged("000000", "planned")
def sidecar_of_another_type(storage: Storage) -> None:
    change_sidecar(storage, lambda document: document.update(planned="4"))


@forged("000000", "has schema version 2, this Flawforge reads 3 only")
def sidecar_of_an_older_version(storage: Storage) -> None:
    change_sidecar(storage, lambda document: document.update(schema_version=2))


@forged("recipe.yaml", "it is not the recipe of the identity: verify.least_inside: 0.2 -> 0.9")
def another_recipe(storage: Storage) -> None:
    text = storage.read("recipe.yaml").replace(b"least_inside: 0.2", b"least_inside: 0.9")
    storage.replace("recipe.yaml", text)


@forged("recipe.yaml", "unknown keys licence")
def recipe_with_another_section(storage: Storage) -> None:
    storage.replace("recipe.yaml", storage.read("recipe.yaml") + b"licence: none\n")


@forged("recipe.yaml", "it is not the recipe of the identity: output.samples_per_shard")
def recipe_without_a_setting(storage: Storage) -> None:
    storage.replace("recipe.yaml", storage.read("recipe.yaml").replace(b"  samples_per_shard: 4\n", b""))


@forged("recipe.yaml", "it has a number that is not finite")
def recipe_with_an_infinite_limit(storage: Storage) -> None:
    text = storage.read("recipe.yaml").replace(b"largest_aspect: 3.0", b"largest_aspect: .inf")
    storage.replace("recipe.yaml", text)


@forged("identity.json", "not in the form in which it is written")
def identity_with_a_further_key(storage: Storage) -> None:
    change_document(
        storage, "identity.json", lambda one: one.update(licence="none"), indent=1, sort_keys=True
    )


@forged("plan.parquet", "it is not the plan that was built upon")
def plan_written_anew(storage: Storage) -> None:
    change_plan(storage, lambda rows: rows[0].update(url="memory://9.png"), sha256=False)


@forged(INDEX, "its keys are not those of the plan")
def plan_with_other_keys(storage: Storage) -> None:
    change_plan(storage, lambda rows: rows[0].update(key="item-10"))


@forged("plan.parquet", "the key item-4 is planned twice")
def plan_with_a_key_twice(storage: Storage) -> None:
    change_plan(storage, lambda rows: rows[7].update(key="item-4"))


@forged("plan.parquet", "the key '../item-0' is not of the form that keys have")
def plan_with_a_key_that_is_a_path(storage: Storage) -> None:
    change_plan(storage, lambda rows: rows[0].update(key="../item-0"))


@forged("manifest.json", "it does not say what the sidecars say")
def manifest_with_other_totals(storage: Storage) -> None:
    change_document(storage, "manifest.json", lambda one: one["totals"].update(accepted=8), indent=1)


@forged("manifest.json", "it does not say what the sidecars say")
def manifest_key_twice(storage: Storage) -> None:
    storage.replace("manifest.json", storage.read("manifest.json").replace(b"{", b'{"complete": false,', 1))


@forged("manifest.json", "it does not say what the sidecars say")
def manifest_with_another_name(storage: Storage) -> None:
    change_document(storage, "manifest.json", lambda one: one.update(name="theirs"), indent=1)


@forged("README.md", "it does not say what identity and sidecars say")
def card_with_other_figures(storage: Storage) -> None:
    storage.replace("README.md", storage.read("README.md").replace(b"7 samples", b"9 samples"))


@forged("README.md", "it does not say what identity and sidecars say")
def card_that_points_elsewhere(storage: Storage) -> None:
    storage.replace("README.md", storage.read("README.md").replace(b"shards/*.tar", b"evil/*.tar"))


@forged("shards/000999.tar", "not in the plan")
def shard_added(storage: Storage) -> None:
    storage.replace("shards/000999.tar", storage.read(TAR))


@forged("shards/0.tar", "not in the plan")
def shard_added_under_another_spelling(storage: Storage) -> None:
    storage.replace("shards/0.tar", storage.read(TAR))


@forged("stats/\u0660.json", "not in the plan")
def sidecar_under_a_foreign_digit(storage: Storage) -> None:
    storage.replace("stats/\u0660.json", storage.read(SIDECAR))


@forged("shards/extra.tar", "not in the plan")
def tar_that_a_glob_takes_for_a_shard(storage: Storage) -> None:
    storage.replace("shards/extra.tar", storage.read(TAR))


@unknowable("Images, captions and figures that were replaced in tar, index, sidecar and manifest alike")
def mask_moved_and_everything_refitted(storage: Storage) -> None:
    name = f"{FIRST}.mask.png"
    mask = np.roll(read_mask({one.name: one.data for one in members(storage)}[name]), 3, axis=1)
    moved = {name: encode_mask(mask), f"{FIRST}.changed.png": encode_mask(mask)}
    change_tar(storage, lambda files: files.update(moved), index=True)


@unknowable("Images, captions and figures that were replaced in tar, index, sidecar and manifest alike")
def image_replaced_and_everything_refitted(storage: Storage) -> None:
    change_tar(storage, lambda files: files.update({f"{FIRST}.image.png": other_image()}), index=True)


@unknowable("Images, captions and figures that were replaced in tar, index, sidecar and manifest alike")
def caption_replaced_and_everything_refitted(storage: Storage) -> None:
    change_both(storage, FIRST, caption="what nobody wrote")


@unknowable("Images, captions and figures that were replaced in tar, index, sidecar and manifest alike")
def seed_replaced_and_everything_refitted(storage: Storage) -> None:
    change_both(storage, FIRST, seed=77, difference_inside=0.5)


@unknowable("A sample that was made a reject, or a reject whose reason was changed, in all of them")
def sample_made_a_reject_and_everything_refitted(storage: Storage) -> None:
    def change(rows: list[dict[str, Any]]) -> None:
        row = next(row for row in rows if row["key"] == THIRD)
        row.update((name, None) for name in row if name.endswith(("_sha256", "_bytes")))
        row.update(status="rejected", stage="verify", reason="unchanged", detail="nothing changed")

    change_index(storage, change)
    put_tar(storage, packed([one for one in members(storage) if not one.name.startswith(THIRD)]))
    change_sidecar(storage, lambda one: one.update(accepted=2, rejected=2, reasons={"unchanged": 2}))
    rebuild(storage)


@unknowable("Seconds in the sidecars")
def seconds_changed(storage: Storage) -> None:
    change_sidecar(storage, lambda document: document.update(seconds={"load": 9.5}))


@unknowable("Name, limits and execution of the recipe")
def execution_changed(storage: Storage) -> None:
    text = storage.read("recipe.yaml").replace(b"rejects: 1.0", b"rejects: 0.5")
    storage.replace("recipe.yaml", text)


@unknowable("Another identity (models, versions, recipe) in all places that have its digest")
def identity_replaced_and_everything_refitted(storage: Storage) -> None:
    from factory.output.identity import Identity, identity_bytes, read_identity

    old, plan = read_identity(storage)
    new = Identity(old.content, {"corruption": "other@1"}, old.versions, old.devices)
    storage.replace("identity.json", identity_bytes(new, plan))

    def change(files: dict[str, bytes]) -> None:
        digests = old.digest.encode(), new.digest.encode()
        files.update((name, data.replace(*digests)) for name, data in files.items())

    for number in range(2):
        change_sidecar(storage, lambda document: document.update(digest=new.digest), number)
        change_tar(storage, change, index=True, shard=number)
    rebuild(storage)
