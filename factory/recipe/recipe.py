"""A recipe: everything that decides what a data set holds, and how it is made, as strict plain data.

A recipe has two halves. What `content` returns decides the bytes of every shard, and has a digest. The rest
(name, limits and execution) may change on every resume. Nothing heavy is imported here: a recipe can be read
anywhere.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from actors.config import Config, not_allowed
from actors.corruption.config import CorruptionConfig
from actors.corruption.verifier_config import VerifierConfig
from actors.errors import RecipeError
from actors.segmentation.regions_config import RegionsConfig
from actors.selection_config import SelectionConfig
from factory.recipe.parsing import parse
from factory.recipe.sections import Execution, Limits, Output, Pool
from factory.recipe.source import Fields, Filter, Source
from factory.recipe.strict_yaml import LARGEST_INTEGER, dump_yaml
from factory.recipe.text import read_file

__all__ = [
    "CONTENT",
    "NAME",
    "SHIPPED",
    "Execution",
    "Fields",
    "Filter",
    "Limits",
    "Name",
    "Output",
    "Pool",
    "Recipe",
    "Source",
    "content",
    "differences",
    "digest",
    "dump",
    "load_recipe",
    "parse_recipe",
    "published",
    "recipe_file",
    "shipped_recipe",
]

SHIPPED = ("quickstart", "quickstart-judged", "images", "sd15", "tinytown-negatives")
"""The recipes that come with Flawforge; a bare name stands for the file."""

_SHELF = Path(str(files("factory"))) / "shipped_recipes"
"""A link to `recipes/` in a checkout, a folder of copies in an installed wheel."""
NAME = re.compile(r"[A-Za-z0-9._-]{1,80}")


def _fit_for_a_file(value: str) -> str:
    if not NAME.fullmatch(value):
        raise not_allowed("1 to 80 letters, digits, '-', '_' or '.'")
    return value


Name = Annotated[str, AfterValidator(_fit_for_a_file)]
"""The name of a recipe, or of a part of one; it becomes the name of a file."""

CONTENT = ("seed", "source", "selection", "regions", "corruption", "verify", "output")
"""Sections and settings that decide the bytes of the shards."""
_NOT_SET = object()


class Recipe(Config):
    """The whole recipe, every default filled in."""

    name: Name = Field(description="of the data set: letters, digits, - _ and .")
    seed: int = Field(
        default=0, ge=0, le=LARGEST_INTEGER, description="all random draws follow from it; below 2^63"
    )
    source: Source = Field(description="clean images")
    selection: SelectionConfig = Field(default=SelectionConfig(), description="images fit to be worked on")
    regions: RegionsConfig = Field(description="where artifacts go")
    corruption: CorruptionConfig = Field(default=CorruptionConfig(), description="how they are made")
    verify: VerifierConfig = Field(default=VerifierConfig(), description="what counts as made")
    output: Output = Field(default=Output(), description="what the shards hold")
    limits: Limits = Field(default=Limits(), description="when a run has gone wrong")
    execution: Execution = Field(default=Execution(), description="pools of workers")

    @field_validator("regions")
    @classmethod
    def _source_has_masks(cls, value: RegionsConfig, info: ValidationInfo) -> RegionsConfig:
        source: Source | None = info.data.get("source")
        if value.kind == "source" and source is not None:
            if source.kind == "tinytown" and not source.parts:
                raise not_allowed("segmenter, unless source.parts names parts", key="kind")
            if source.kind != "tinytown" and source.fields.mask is None:
                raise not_allowed("segmenter, unless source.fields.mask names a mask", key="kind")
        return value

    @field_validator("corruption")
    @classmethod
    def _source_has_captions(cls, value: CorruptionConfig, info: ValidationInfo) -> CorruptionConfig:
        source: Source | None = info.data.get("source")
        silent = source is not None and source.kind != "tinytown" and source.fields.caption is None
        if value.prompt == "caption" and silent:
            raise not_allowed("empty, unless source.fields.caption names a caption", key="prompt")
        return value

    @field_validator("corruption")
    @classmethod
    def _nothing_to_corrupt(cls, value: CorruptionConfig, info: ValidationInfo) -> CorruptionConfig:
        if _without_regions(info):
            if value.method != "none":
                raise not_allowed("none, since regions.kind is none", key="method")
            if value.deeper:
                raise not_allowed("nothing, since regions.kind is none", key="deeper")
        return value

    @field_validator("verify")
    @classmethod
    def _clean_by_comparison(cls, value: VerifierConfig, info: ValidationInfo) -> VerifierConfig:
        """Refuses limits that no clean negative meets, and a baseline that equals every one of them."""
        if _without_regions(info):
            corruption: CorruptionConfig | None = info.data.get("corruption")
            allowed = ["original", "autoencoder"]
            if corruption is not None and corruption.target == "image":
                allowed.remove("autoencoder")  # the target is exactly that
            if value.baseline not in allowed:
                because = "with least_inside 0, since regions.kind is none"
                raise not_allowed(f"{' or '.join(allowed)}, {because}", key="baseline")
            if value.least_inside > 0:
                raise not_allowed("0, since regions.kind is none", key="least_inside")
        return value

    @field_validator("verify")
    @classmethod
    def _something_to_judge(cls, value: VerifierConfig, info: ValidationInfo) -> VerifierConfig:
        corruption: CorruptionConfig | None = info.data.get("corruption")
        if value.judge is not None and corruption is not None and corruption.method == "none":
            raise not_allowed("nothing, since corruption.method is none", key="judge")
        return value


def load_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Reads a recipe.

    Args:
        path: a file, or the bare name of one of `SHIPPED`.
        overrides: `a.b=c`, the value being YAML; they win over the file.

    Raises:
        RecipeError: it cannot be read, or is wrong; the message lists every mistake with its line.
    """
    file = recipe_file(path, SHIPPED)
    return parse_recipe(read_file(file, SHIPPED), str(file), overrides)


def shipped_recipe(name: str) -> str:
    """The text of a recipe of `SHIPPED`, with its comments.

    Raises:
        RecipeError: there is no shipped recipe of that name.
    """
    if name not in SHIPPED:
        raise RecipeError(f"{name}: no shipped recipe; allowed: {', '.join(SHIPPED)}")
    return read_file(recipe_file(name, SHIPPED), SHIPPED)


def recipe_file(path: str | Path, shipped: Sequence[str]) -> Path:
    """The file of a recipe: that of a shipped one for its bare name, else the path itself.

    Raises:
        RecipeError: it is the bare name of a shipped recipe that is not in `shipped`, and no file.
    """
    of_others = {file.stem for file in _SHELF.glob("*.yaml")}.difference(shipped)
    if str(path) in of_others and not Path(path).exists():
        raise RecipeError(f"{path}: a recipe of another command; shipped ones of this: {', '.join(shipped)}")
    return _SHELF / f"{path}.yaml" if str(path) in shipped else Path(path)


def parse_recipe(text: str, where: str, overrides: Sequence[str] = ()) -> Recipe:
    """`load_recipe` for a text; `where` names it in messages."""
    return parse(Recipe, text, where, overrides)


def published(recipe: Recipe) -> Recipe:
    """The recipe without the secrets of its URLs. Whatever is written or printed of a recipe is written of this."""
    return recipe.model_copy(update={"source": recipe.source.redacted()})


def dump(recipe: Recipe) -> str:
    """YAML with every default written out; it reads back as an equal recipe, but for the secrets of its URLs.

    Text beyond ASCII is escaped, since PyYAML writes some of it (U+0085) so that it reads back as a space.
    """
    return dump_yaml(published(recipe).model_dump(mode="json"))


def content(recipe: Recipe) -> dict[str, Any]:
    """The half that decides the bytes of the shards, as JSON has it: all but name, limits and execution.

    Without the secrets of URLs, so that a renewed signature makes no other data set.
    """
    return published(recipe).model_dump(mode="json", include=set(CONTENT))


def digest(document: Mapping[str, Any]) -> str:
    """SHA-256, as hex, of the document's canonical JSON: keys sorted, no spaces, ASCII.

    Raises:
        ValueError: a number is not finite; it would have no JSON.
    """
    return hashlib.sha256(_canonical(document).encode()).hexdigest()


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """One line for each value that differs, such as `verify.least_inside: 0.2 -> 0.3`, sorted by key.

    Two documents have the same digest exactly where this is empty; so 1 and 1.0 differ, and 1 and true.
    """
    pairs = sorted(_pairs("", old, new), key=lambda pair: pair[0])
    return [f"{name}: {_side(before)} -> {_side(after)}" for name, before, after in pairs]


def _without_regions(info: ValidationInfo) -> bool:
    """Whether the sections that were read before choose no region."""
    regions: RegionsConfig | None = info.data.get("regions")
    return regions is not None and regions.kind == "none"


def _pairs(name: str, old: Any, new: Any) -> Iterator[tuple[str, Any, Any]]:
    """The smallest parts that differ. A section on one side only is taken apart, to show what it holds."""
    if old is _NOT_SET and isinstance(new, Mapping) and new:
        old = {}
    if new is _NOT_SET and isinstance(old, Mapping) and old:
        new = {}
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in old.keys() | new.keys():
            inner = f"{name}.{key}" if name else key
            yield from _pairs(inner, old.get(key, _NOT_SET), new.get(key, _NOT_SET))
    elif old is _NOT_SET or new is _NOT_SET or _canonical(old) != _canonical(new):
        yield name, old, new


def _side(value: Any) -> str:
    return "(not set)" if value is _NOT_SET else json.dumps(value, ensure_ascii=False, sort_keys=True)


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
