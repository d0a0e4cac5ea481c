"""Manifest and dataset card made anew, from nothing but plan, identity, recipe and sidecars."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping

from actors.errors import FlawforgeError, LockLostError
from factory import card
from factory import manifest as manifests
from factory.care.parts import identity_of, is_merged, parts_of
from factory.lock import Lock
from factory.manifest import Progress, done_shards, manifest_bytes, progress, read_sidecars
from factory.plan import Plan, read_plan
from factory.recipe import parse_recipe
from factory.shards.records import Sidecar
from factory.storage import Storage


def rebuild(storage: Storage) -> Progress:
    """Writes `manifest.json` and `README.md`, and returns the totals. Holds the lock meanwhile.

    Raises:
        OutputError: plan, identity, recipe or a sidecar is missing or damaged; or another run is at work there.
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
        return _write(storage)
    except LockLostError:
        unfenced = Storage(storage.url, storage.patience)
        # Whatever is missing is being written by the other run, which ends with both files.
        with contextlib.suppress(FlawforgeError):
            before = None
            while before != (before := done_shards(unfenced)):
                _write(unfenced)
        raise


def _write(storage: Storage) -> Progress:
    plan, sidecars = read_plan(storage), read_sidecars(storage)
    for path, data in documents(storage, plan, sidecars).items():
        storage.replace(path, data)
    return progress(plan, sidecars)


def documents(storage: Storage, plan: Plan, sidecars: Mapping[int, Sidecar]) -> dict[str, bytes]:
    """What `manifest.json` and `README.md` must hold, by path.

    Raises:
        OutputError, RecipeError: as `rebuild`.
    """
    parts, identity = parts_of(storage, plan), identity_of(storage, plan)
    total = progress(plan, sidecars)
    if is_merged(identity):
        name = str(identity.content["name"])
        text = card.merged_card_text(identity, total, parts)
    else:
        recipe = parse_recipe(parts[0].recipe, f"{storage.url}/recipe.yaml")
        name, text = recipe.name, card.card_text(recipe, identity, total)
    manifest = manifest_bytes(plan, identity, sidecars, total, name)
    return {manifests.PATH: manifest, card.PATH: text.encode()}
