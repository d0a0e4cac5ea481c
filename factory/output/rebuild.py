"""Manifest and dataset card made anew, from nothing but plan, identity, recipe and sidecars."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping

from actors.errors import FlawforgeError, LockLostError, OutputError
from factory.output import card
from factory.output import manifest as manifests
from factory.output.census import take_census
from factory.output.lock import Lock
from factory.output.manifest import Progress, manifest_bytes, progress
from factory.output.plan import Plan, read_plan
from factory.output.provenance import identity_of, is_import, is_merged, is_prediction, parts_of
from factory.output.shards.records import Sidecar
from factory.recipe.recipe import parse_recipe
from factory.store.storage import Storage

_ROUNDS = 10
"""After these a late run leaves both files to the run that keeps changing their content."""


def rebuild(storage: Storage) -> Progress:
    """Writes `manifest.json` and `README.md`, and returns the totals. Holds the lock meanwhile.

    Only shards that are done count, see `factory.output.census`: one whose sidecar is damaged, or of another recipe,
    does not.

    Raises:
        OutputError: plan, identity or recipe is missing or damaged; or another run is at work on the output.
        RecipeError: this version of Flawforge cannot read the recipe.
        LockLostError: another run took the output over.
    """
    with Lock(storage) as lock:
        return write_documents(lock.storage)


def write_documents(storage: Storage) -> Progress:
    """What `rebuild` does, for the run that holds the lock; `storage` is the lock's.

    A run that was stopped in the middle of replacing a file, and has lost the lock meanwhile, cannot take back what it
    then wrote over the newer one. But both files follow from the others: it writes them once more, as those are now.
    """
    try:
        files, total = _current(storage)
        _replace(storage, files)
        return total
    except LockLostError:
        unfenced = Storage(storage.url, storage.patience)
        # Whatever is missing is being written by the other run, which ends with both files.
        with contextlib.suppress(FlawforgeError):
            files = _current(unfenced)[0]
            for _ in range(_ROUNDS):
                _replace(unfenced, files)
                written, files = files, _current(unfenced)[0]
                if files == written:
                    break
        raise


def _current(storage: Storage) -> tuple[dict[str, bytes], Progress]:
    """Both files as they must be now, and the totals in them."""
    plan = read_plan(storage)
    sidecars = take_census(storage, plan)
    return documents(storage, plan, sidecars), progress(plan, sidecars)


def _replace(storage: Storage, files: Mapping[str, bytes]) -> None:
    for path, data in files.items():
        storage.replace(path, data)


def documents(storage: Storage, plan: Plan, sidecars: Mapping[int, Sidecar]) -> dict[str, bytes]:
    """What `manifest.json` and `README.md` must hold, by path.

    Raises:
        OutputError, RecipeError: as `rebuild`.
    """
    parts, identity = parts_of(storage, plan), identity_of(storage, plan)
    if is_import(identity):
        raise OutputError(
            f"{storage.url} was made by flawforge {'predict' if is_prediction(identity) else 'import'}; run the same "
            "command again: it writes both files anew"
        )
    total = progress(plan, sidecars)
    if is_merged(identity):
        name = str(identity.content["name"])
        text = card.merged_card_text(identity, total, parts)
    else:
        recipe = parse_recipe(parts[0].recipe, f"{storage.url}/recipe.yaml")
        name, text = recipe.name, card.card_text(recipe, identity, total)
    manifest = manifest_bytes(plan, identity, sidecars, total, name)
    return {manifests.PATH: manifest, card.PATH: text.encode()}
