"""What made the shards of an output: one recipe, or several, each for a run of shards.

A merged output has several, and so has one with further versions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from actors.errors import OutputError, RecipeError
from factory.output.identity import Identity, IdentityDocument, read_identity
from factory.output.layout import VERSIONS
from factory.output.plan import Plan
from factory.recipe.text import decoded, read_mapping
from factory.store.storage import Storage

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


def is_import(identity: Identity) -> bool:
    """Whether the output was made by `flawforge import` or `predict`, so that its recipe is not one of a build."""
    return "import" in identity.content or is_prediction(identity)


def is_prediction(identity: Identity) -> bool:
    """Whether the output was made by `flawforge predict`."""
    return "predict" in identity.content


def parts_of(storage: Storage, plan: Plan) -> tuple[Part, ...]:
    """The parts of an output, in the order of their shards; most have one part.

    Args:
        plan: the output's.

    Raises:
        OutputError: identity or recipe are missing or damaged.
    """
    parts: list[Part] = []
    for version in plan.versions:
        identity, _ = read_identity(storage, version.number)
        if is_merged(identity):
            parts += _merged_parts(identity, storage)
            continue
        path = recipe_path(version.number)
        try:
            recipe = decoded(storage.read(path), path)
            name = str(read_mapping(recipe, path)["name"])
        except (RecipeError, KeyError) as error:
            raise OutputError(f"{storage.url}: {path} is damaged: {error}") from error
        parts.append(Part(storage.url, name, len(version.shards), recipe, identity))
    if sum(part.shards for part in parts) != plan.shards:
        raise OutputError(
            f"{storage.url}: identity.json is damaged: its parts have not the shards of the plan"
        )
    return tuple(parts)


def identity_of(storage: Storage, plan: Plan) -> Identity:
    """The identity of a whole output: that of its recipe, or one that lists its parts.

    Raises:
        OutputError: as `parts_of`.
    """
    identity, _ = read_identity(storage)
    if len(plan.versions) == 1:
        return identity
    parts = parts_of(storage, plan)
    # What was made here has no place in the list: an output stays the same when it is moved.
    own = [replace(part, url="") if part.url == storage.url else part for part in parts]
    return merged_identity(str(identity.content["name"]) if is_merged(identity) else parts[0].name, own)


def recipe_path(version: int) -> str:
    return RECIPE if version == 1 else f"{VERSIONS}/{version:04d}.recipe.yaml"


def part_at(parts: Sequence[Part], number: int) -> Part:
    """The part that made shard `number`."""
    for part in parts:
        if number < part.shards:
            return part
        number -= part.shards
    raise ValueError(f"no part has a shard {number} more")


def digests_by_shard(parts: Sequence[Part]) -> list[str]:
    """The digest of the identity that each shard was made by, in the order of the shards."""
    return [digest for part in parts for digest in [part.identity.digest] * part.shards]


class _PartDocument(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    url: str
    name: str
    digest: str
    shards: int = Field(ge=1)
    recipe: str
    identity: IdentityDocument


class _MergedContent(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    name: str
    parts: list[_PartDocument] = Field(min_length=1)


def _merged_parts(identity: Identity, storage: Storage) -> list[Part]:
    try:
        content = _MergedContent.model_validate(dict(identity.content))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise OutputError(
            f"{storage.url}: identity.json is damaged in its parts: {where}: {first['msg']}"
        ) from error
    parts = []
    for document in content.parts:
        made_by = Identity(**document.identity.model_dump())
        if made_by.digest != document.digest:
            raise OutputError(
                f"{storage.url}: identity.json is damaged: the digest of {document.url} does not fit"
            )
        parts.append(Part(document.url, document.name, document.shards, document.recipe, made_by))
    return parts


def _union(parts: Sequence[Part], field: str) -> dict[str, str]:
    """The values of a field of all parts by name; different values are sorted and joined."""
    found: dict[str, set[str]] = {}
    for part in parts:
        for name, value in getattr(part.identity, field).items():
            found.setdefault(name, set()).add(value)
    return {name: ", ".join(sorted(values)) for name, values in sorted(found.items())}
