"""What made the shards of an output: one recipe, or in a merged output several, each for a run of shards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import yaml  # type: ignore[import-untyped, unused-ignore]

from actors.errors import OutputError
from factory.identity import Identity, read_identity
from factory.storage import Storage

RECIPE = "recipe.yaml"


@dataclass(frozen=True)
class Part:
    """What made a run of shards.

    Attributes:
        url: where the output lay when it was merged; for one that is not merged, where it lies.
        name: of the recipe.
        shards: how many of the shards are its own. They follow on those of the part before.
        recipe: the text of its `recipe.yaml`.
        identity: recipe content, weights, versions and devices.
    """

    url: str
    name: str
    shards: int
    recipe: str
    identity: Identity

    @property
    def document(self) -> dict[str, Any]:
        return {
            "url": self.url,
            "name": self.name,
            "digest": self.identity.digest,
            "shards": self.shards,
            "recipe": self.recipe,
            "identity": self.identity.document,
        }


def merged_identity(name: str, parts: Sequence[Part]) -> Identity:
    """The identity of a merged output. Its content is a name and the parts; the rest names what any of them used."""
    content = {"name": name, "parts": [part.document for part in parts]}
    return Identity(content, *(_union(parts, field) for field in ("models", "versions", "devices")))


def is_merged(identity: Identity) -> bool:
    return "parts" in identity.content


def digest_at(identity: Identity, number: int) -> str:
    """The digest that shard `number` and its samples must carry."""
    end = 0
    for part in identity.content["parts"] if is_merged(identity) else ():
        end += part["shards"]
        if number < end:
            return str(part["digest"])
    return identity.digest


def parts_of(storage: Storage, shards: int) -> tuple[Part, ...]:
    """The parts of an output, in the order of their shards; one that is not merged has one part.

    Args:
        shards: how many the output's plan has.

    Raises:
        OutputError: identity or recipe are missing or damaged.
    """
    identity, _ = read_identity(storage)
    if is_merged(identity):
        return tuple(_part(document, storage) for document in identity.content["parts"])
    recipe = storage.read(RECIPE).decode("utf-8", "replace")
    return (Part(storage.url, _name(recipe, storage), shards, recipe, identity),)


def part_at(parts: Sequence[Part], number: int) -> Part:
    """The part that made shard `number`."""
    for part in parts:
        if number < part.shards:
            return part
        number -= part.shards
    raise ValueError(f"no part has a shard {number} more")


def _part(document: dict[str, Any], storage: Storage) -> Part:
    try:
        identity = Identity(**{field.name: document["identity"][field.name] for field in fields(Identity)})
        part = Part(document["url"], document["name"], document["shards"], document["recipe"], identity)
    except (KeyError, TypeError) as error:
        raise OutputError(f"{storage.url}: identity.json is damaged in its parts: {error!r}") from error
    if part.identity.digest != document["digest"]:
        raise OutputError(f"{storage.url}: identity.json is damaged: the digest of {part.url} does not fit")
    return part


def _name(recipe: str, storage: Storage) -> str:
    try:
        return str(yaml.safe_load(recipe)["name"])
    except (yaml.YAMLError, KeyError, TypeError) as error:
        raise OutputError(f"{storage.url}: {RECIPE} is damaged: {error!r}") from error


def _union(parts: Sequence[Part], field: str) -> dict[str, str]:
    """By name, what the parts have there; where they differ, all of it, sorted."""
    found: dict[str, set[str]] = {}
    for part in parts:
        for name, value in getattr(part.identity, field).items():
            found.setdefault(name, set()).add(value)
    return {name: ", ".join(sorted(values)) for name, values in sorted(found.items())}
