"""Manifest and dataset card made anew, from nothing but plan, identity, recipe and sidecars."""

from __future__ import annotations

from factory.card import write_card, write_merged_card
from factory.care.parts import identity_of, is_merged, parts_of
from factory.manifest import Progress, write_manifest
from factory.plan import read_plan
from factory.recipe import parse_recipe
from factory.storage import Storage


def rebuild(storage: Storage) -> Progress:
    """Writes `manifest.json` and `README.md`, and returns the totals.

    Raises:
        OutputError: plan, identity, recipe or a sidecar is missing or damaged.
        RecipeError: this version of Flawforge cannot read the recipe.
    """
    plan = read_plan(storage)
    parts, identity = parts_of(storage, plan), identity_of(storage, plan)
    if is_merged(identity):
        total = write_manifest(storage, plan, identity, str(identity.content["name"]))
        write_merged_card(storage, identity, total, parts)
        return total
    recipe = parse_recipe(parts[0].recipe, f"{storage.url}/recipe.yaml")
    total = write_manifest(storage, plan, identity, recipe.name)
    write_card(storage, recipe, identity, total)
    return total
