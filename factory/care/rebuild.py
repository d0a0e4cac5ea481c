"""Manifest and dataset card made anew, from nothing but plan, identity, recipe and sidecars."""

from __future__ import annotations

from collections.abc import Mapping

from factory import card
from factory import manifest as manifests
from factory.care.parts import identity_of, is_merged, parts_of
from factory.manifest import Progress, manifest_bytes, progress, read_sidecars
from factory.plan import Plan, read_plan
from factory.recipe import parse_recipe
from factory.shards.records import Sidecar
from factory.storage import Storage


def rebuild(storage: Storage) -> Progress:
    """Writes `manifest.json` and `README.md`, and returns the totals.

    Raises:
        OutputError: plan, identity, recipe or a sidecar is missing or damaged.
        RecipeError: this version of Flawforge cannot read the recipe.
    """
    plan, sidecars = read_plan(storage), read_sidecars(storage)
    for path, text in documents(storage, plan, sidecars).items():
        storage.replace(path, text)
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
        text = card.merged_card(identity, total, parts)
    else:
        recipe = parse_recipe(parts[0].recipe, f"{storage.url}/recipe.yaml")
        name, text = recipe.name, card.card(recipe, identity, total)
    manifest = manifest_bytes(plan, identity, sidecars, total, name)
    return {manifests.PATH: manifest, card.PATH: text.encode()}
