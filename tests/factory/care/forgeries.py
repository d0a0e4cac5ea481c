"""A catalogue of forged outputs: what was changed, where `verify` must find it, and what it must say."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from actors.images import encode_mask, read_mask
from factory.care.rebuild import rebuild
from factory.storage import Storage
from tests.factory.care.forger import (
    FIRST,
    INDEX,
    REJECTED,
    SECOND,
    SIDECAR,
    TAR,
    THIRD,
    Member,
    change_both,
    change_document,
    change_index,
    change_json,
    change_plan,
    change_sidecar,
    change_tar,
    members,
    other_image,
    other_mask,
    packed,
    put_tar,
)


@dataclass(frozen=True)
class Forgery:
    """A way to forge an output.

    Attributes:
        name: of it.
        make: changes a sound output; see `tests.factory.care.forger.sound_output`.
        where: how the place begins in one of the problems that `verify` must find.
        what: words of that problem.
        documented: for what cannot be known, words of docs/looking-after.md that say so; `verify` finds nothing.
    """

    name: str
    make: Callable[[Storage], None]
    where: str = ""
    what: str = ""
    documented: str = ""


FORGERIES: list[Forgery] = []


def forged(where: str, what: str, *, documented: str = "") -> Callable[[Callable[[Storage], None]], None]:
    """Enters a forgery in the catalogue."""

    def entered(make: Callable[[Storage], None]) -> None:
        FORGERIES.append(Forgery(make.__name__, make, where, what, documented))

    return entered


def unknowable(documented: str) -> Callable[[Callable[[Storage], None]], None]:
    return forged("", "", documented=documented)


def swapped(*extensions: str) -> Callable[[Storage], None]:
    """Swaps files of the first two samples; the sidecar is refitted."""

    def make(storage: Storage) -> None:
        def change(files: dict[str, bytes]) -> None:
            for extension in extensions:
                one, other = f"{FIRST}.{extension}", f"{SECOND}.{extension}"
                files[one], files[other] = files[other], files[one]

        change_tar(storage, change)

    return make


for _name in ("image", "mask", "changed", "original"):
    FORGERIES.append(
        Forgery(
            f"{_name}_swapped_with_another_sample",
            swapped(f"{_name}.png"),
            f"{TAR} {SECOND}",
            f"{_name}.png is not that of the index",
        )
    )
FORGERIES += [
    Forgery("json_swapped", swapped("json"), f"{TAR} {FIRST}", "json is not that of the index"),
    Forgery(
        "samples_swapped_under_each_others_keys",
        swapped("image.png", "mask.png", "changed.png", "original.png", "json"),
        f"{TAR} {FIRST}",
        "mask.png is not that of the index",
    ),
]

_JSON: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "seed_as_text": (lambda about: about.update(seed="6"), "seed: Input should be a valid integer"),
    "seed_as_float": (lambda about: about.update(seed=6.0), "seed: Input should be a valid integer"),
    "seed_of_4000_digits": (lambda about: about.update(seed=10**4000), "seed"),
    "verified_as_number": (
        lambda about: about.update(verified=1),
        "verified: Input should be a valid boolean",
    ),
    "metric_as_integer": (
        lambda about: about.update(change_inside=1),
        "not in the form in which it is written",
    ),
    "metric_not_a_number": (lambda about: about.update(mask_area=float("nan")), "mask_area"),
    "metric_above_one": (lambda about: about.update(mask_area=1.5), "mask_area"),
    "metric_changed": (lambda about: about.update(difference_inside=0.5), "has the difference_inside 0.5"),
    "caption_changed": (lambda about: about.update(caption="another"), "json has the caption 'another'"),
    "caption_null": (lambda about: about.update(caption=None), "caption: Input should be a valid string"),
    "attempts_changed": (lambda about: about.update(attempts=3), "json has the attempts 3, the index 1"),
    "method_changed": (lambda about: about.update(method="blur"), "json has the method 'blur'"),
    "inference_steps_changed": (
        lambda about: about.update(inference_steps=20),
        "json has the inference_steps 20",
    ),
    "label_changed": (lambda about: about.update(label="hand"), "label"),
    "source_changed": (lambda about: about.update(source="memory://9.png"), "json has the source"),
    "schema_version_changed": (lambda about: about.update(schema_version=1), "has the schema version 1"),
    "key_of_another": (lambda about: about.update(key=SECOND), "json says its key is 'item-1'"),
    "recipe_digest_changed": (lambda about: about.update(recipe_digest="0" * 64), "another recipe made it"),
    "field_added": (lambda about: about.update(licence="none"), "licence: Extra inputs are not permitted"),
    "field_left_out": (lambda about: about.pop("caption") and None, "caption: Field required"),
    "a_list": (lambda about: [about], "not that of a sample"),
}
for _name, (_change, _what) in _JSON.items():
    FORGERIES.append(
        Forgery(
            f"json_{_name}",
            lambda storage, change=_change: change_json(storage, FIRST, change),  # type: ignore[misc]
            f"{TAR} {FIRST}",
            _what,
        )
    )


def json_bytes(change: Callable[[bytes], bytes]) -> Callable[[Storage], None]:
    def make(storage: Storage) -> None:
        name = f"{FIRST}.json"
        change_tar(storage, lambda files: files.update({name: change(files[name])}), index=True)

    return make


FORGERIES += [
    Forgery(
        "json_key_twice",
        json_bytes(lambda data: data.replace(b"{", b'{"caption": "first", ', 1)),
        f"{TAR} {FIRST}",
        "not in the form in which it is written",
    ),
    Forgery(
        "json_with_spaces",
        json_bytes(lambda data: data + b"\n"),
        f"{TAR} {FIRST}",
        "not in the form in which it is written",
    ),
    Forgery("json_nested", json_bytes(lambda data: b"[" * 100_000), f"{TAR} {FIRST}", "not that of a sample"),
    Forgery("json_not_utf8", json_bytes(lambda data: b'"\xff"'), f"{TAR} {FIRST}", "not that of a sample"),
]


@forged(f"{TAR} {FIRST}", "it has two files mask.png")
def member_twice(storage: Storage) -> None:
    found = members(storage)
    put_tar(storage, packed([*found[:2], Member.plain(f"{FIRST}.mask.png", other_mask()), *found[2:]]))


@forged(f"{TAR} {FIRST}", "do not lie side by side")
def member_again_behind_the_last_sample(storage: Storage) -> None:
    put_tar(storage, packed([*members(storage), Member.plain(f"{FIRST}.mask.png", other_mask())]))


@forged(TAR, "not in the order of the index")
def samples_in_another_order(storage: Storage) -> None:
    found = members(storage)
    put_tar(storage, packed([*found[5:], *found[:5]]))


@forged(f"{TAR} {FIRST}", "its files are in the order mask.png, image.png")
def files_in_another_order(storage: Storage) -> None:
    found = members(storage)
    put_tar(storage, packed([found[1], found[0], *found[2:]]))


@forged(f"{TAR} {FIRST}", "missing mask.png")
def member_left_out(storage: Storage) -> None:
    change_tar(storage, lambda files: files.pop(f"{FIRST}.mask.png") and None)


@forged(f"{TAR} {FIRST}", "missing original.png")
def original_left_out_of_tar_and_index(storage: Storage) -> None:
    change_tar(storage, lambda files: files.pop(f"{FIRST}.original.png") and None)
    change_index(storage, lambda rows: rows[0].update(original_bytes=None, original_sha256=None))


@forged(f"{TAR} {FIRST}", "unknown members note.txt")
def member_added(storage: Storage) -> None:
    found = members(storage)
    put_tar(storage, packed([*found[:5], Member.plain(f"{FIRST}.note.txt", b"a note"), *found[5:]]))


@forged(f"{TAR} item-9", "not accepted in the index")
def sample_added(storage: Storage) -> None:
    found = members(storage)
    extra = [Member.plain(one.name.replace(FIRST, "item-9"), one.data) for one in found[:5]]
    put_tar(storage, packed([*found, *extra]))


@forged(f"{TAR} {SECOND}", "not in the tar")
def sample_left_out(storage: Storage) -> None:
    put_tar(storage, packed([one for one in members(storage) if not one.name.startswith(SECOND)]))


def _of_kind(kind: bytes, **header: Any) -> Callable[[Storage], None]:
    def make(storage: Storage) -> None:
        found = members(storage)
        found[1] = Member.plain(found[1].name, b"", type=kind, **header)
        put_tar(storage, packed(found))

    return make


for _name, _type, _words in (
    ("symbolic_link", tarfile.SYMTYPE, "a symbolic link"),
    ("hard_link", tarfile.LNKTYPE, "a hard link"),
    ("folder", tarfile.DIRTYPE, "a folder"),
    ("named_pipe", tarfile.FIFOTYPE, "a named pipe"),
    ("device", tarfile.CHRTYPE, "a device"),
):
    FORGERIES.append(
        Forgery(
            f"member_is_a_{_name}",
            _of_kind(_type, linkname=f"{SECOND}.mask.png"),
            TAR,
            f"{FIRST}.mask.png is {_words}; a shard holds regular files only",
        )
    )


for _name, _header in {
    "times": {"mtime": 1_700_000_000},
    "owner": {"uid": 1000, "gid": 1000, "uname": "someone"},
    "mode": {"mode": 0o777},
    "link_name": {"linkname": "/etc/passwd"},
}.items():

    def _make(storage: Storage, header: dict[str, Any] = _header) -> None:
        found = members(storage)
        found[1].header = header
        put_tar(storage, packed(found))

    FORGERIES.append(
        Forgery(f"header_with_{_name}", _make, TAR, f"{FIRST}.mask.png: its header is not as it is written")
    )


@forged(TAR, "././@PaxHeader is an extended header")
def extended_header(storage: Storage) -> None:
    name = b"path=another.png\n"
    header = Member.plain("././@PaxHeader", b"20 " + name, type=tarfile.XHDTYPE)
    put_tar(storage, packed([header, *members(storage)]))


@forged(TAR, "there is more behind its end")
def second_tar_behind_the_end(storage: Storage) -> None:
    extra = [Member.plain(f"{FIRST}.mask.png", other_mask())]
    put_tar(storage, storage.read(TAR) + packed(extra))


@forged(TAR, "its end is")
def zeros_behind_the_end(storage: Storage) -> None:
    put_tar(storage, storage.read(TAR) + bytes(10240))


@forged(TAR, "its end is")
def end_shortened(storage: Storage) -> None:
    put_tar(storage, storage.read(TAR).rstrip(b"\0") + bytes(1024 + 10))


@forged(TAR, "the padding behind it is not empty")
def bytes_in_the_padding(storage: Storage) -> None:
    size = len(members(storage)[0].data)
    data = bytearray(storage.read(TAR))
    data[512 + size : 512 + size + 6] = b"hidden"
    put_tar(storage, bytes(data))


@forged(TAR, "not a tar as it is written")
def compressed(storage: Storage) -> None:
    import gzip

    put_tar(storage, gzip.compress(storage.read(TAR)))


def _picture(name: str, data: Callable[[], bytes]) -> Callable[[Storage], None]:
    """Another picture, with sidecar and hashes in the index refitted."""
    member = f"{FIRST}.{name}"
    return lambda storage: change_tar(storage, lambda files: files.update({member: data()}), index=True)


def _saved(image: Image.Image, form: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form)
    return buffer.getvalue()


for _name, _member, _data, _what in (
    ("mask_is_empty", "mask.png", lambda: encode_mask(np.zeros((16, 16), bool)), "mask.png is empty"),
    ("mask_is_another", "mask.png", lambda: other_mask(0.4), "the pixels give a mask_area of"),
    ("changed_is_another", "changed.png", lambda: other_mask(0.4), "the pixels give a changed_area of"),
    ("mask_in_grey", "mask.png", lambda: _saved(Image.new("L", (16, 16), 255)), "mask.png has the mode L"),
    ("image_in_grey", "image.png", lambda: _saved(Image.new("L", (16, 16))), "image.png has the mode L"),
    ("image_with_holes", "image.png", lambda: _saved(Image.new("RGBA", (16, 16))), "has the mode RGBA"),
    ("mask_too_small", "mask.png", lambda: encode_mask(np.ones((8, 8), bool)), "mask.png is 8 x 8 pixels"),
    (
        "mask_of_64_megapixels",
        "mask.png",
        lambda: _saved(Image.new("1", (8000, 8000), 1)),
        "mask.png cannot be decoded: 8000 x 8000 pixels; at most",
    ),
    ("image_cut", "image.png", lambda: other_image()[:-60], "image.png cannot be decoded"),
    (
        "original_is_a_jpeg",
        "original.png",
        lambda: _saved(Image.new("RGB", (16, 16)), "JPEG"),
        "original.png cannot be decoded: not a PNG",
    ),
    ("image_is_text", "image.png", lambda: b"no picture", "image.png cannot be decoded: not a PNG"),
):
    FORGERIES.append(Forgery(_name, _picture(_member, _data), f"{TAR} {FIRST}", _what))


@forged(f"{TAR} {FIRST}", "mask.png covers 100.00%")
def mask_beyond_the_limits(storage: Storage) -> None:
    full = encode_mask(np.ones((16, 16), bool))
    change_tar(storage, lambda files: files.update({f"{FIRST}.{m}.png": full for m in ("mask", "changed")}))
    change_both(storage, FIRST, mask_area=1.0, changed_area=1.0)


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


@unknowable("Pictures, captions and figures that were replaced in tar, index, sidecar and manifest alike")
def mask_moved_and_everything_refitted(storage: Storage) -> None:
    name = f"{FIRST}.mask.png"
    mask = np.roll(read_mask({one.name: one.data for one in members(storage)}[name]), 3, axis=1)
    moved = {name: encode_mask(mask), f"{FIRST}.changed.png": encode_mask(mask)}
    change_tar(storage, lambda files: files.update(moved), index=True)


@unknowable("Pictures, captions and figures that were replaced in tar, index, sidecar and manifest alike")
def image_replaced_and_everything_refitted(storage: Storage) -> None:
    change_tar(storage, lambda files: files.update({f"{FIRST}.image.png": other_image()}), index=True)


@unknowable("Pictures, captions and figures that were replaced in tar, index, sidecar and manifest alike")
def caption_replaced_and_everything_refitted(storage: Storage) -> None:
    change_both(storage, FIRST, caption="what nobody wrote")


@unknowable("Pictures, captions and figures that were replaced in tar, index, sidecar and manifest alike")
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
    from factory.identity import Identity, identity_bytes, read_identity

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
