"""The recipe of a prediction: which images, which detector, and what the shards hold, as strict plain data.

`name`, `limits` and `execution` may change on every resume. The rest has a digest. Nothing heavy is imported here.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator

from actors.config import Config, not_allowed
from actors.segmentation.detector_config import DetectorConfig
from actors.stage_names import StageName
from factory.recipe.parsing import parse
from factory.recipe.recipe import Name, recipe_file
from factory.recipe.sections import LightPool, Limits, Pool, RunSettings
from factory.recipe.source import Listing
from factory.recipe.strict_yaml import LARGEST_INTEGER, dump_yaml
from factory.recipe.text import read_file

SHIPPED = ("predict-tinytown",)
"""The recipes of predictions that come with Flawforge; a bare name stands for the file."""

SPLITS = tuple(f"tinytown/{name}" for name in ("wild", "labelled", "validation"))
"""Names of shipped splits that a source may give as a URL."""

CONTENT = ("kind", "seed", "source", "detector", "output")
"""Sections and settings that decide the bytes of the shards."""


class Output(Config):
    """What the shards hold."""

    samples_per_shard: int = Field(
        default=128, ge=1, le=1_000_000, description="planned images in a shard, before rejects"
    )
    image: Literal["keep", "leave_out"] = Field(
        default="keep", description="whether each sample carries its image, or only map, mask and figures"
    )


class Execution(RunSettings):
    """Where and how fast the work is done. It never changes a byte of the output."""

    load: LightPool = Field(default=LightPool(), description="read and decode")
    predict: Pool = Field(default=Pool(), description="run the detector; with GPUs it runs on them")
    write: LightPool = Field(default=LightPool(), description="build and publish shards")

    @property
    def pools(self) -> dict[StageName, Pool]:
        """The pools by stage, in the order of the pipeline."""
        return {StageName.LOAD: self.load, StageName.PREDICT: self.predict, StageName.WRITE: self.write}


class PredictRecipe(Config):
    """The whole recipe, every default filled in."""

    name: Name = Field(description="of the output: letters, digits, - _ and .")
    kind: Literal["predict"] = Field(description="predict")
    seed: int = Field(
        default=0, ge=0, le=LARGEST_INTEGER, description="of the sampling by source.share; below 2^63"
    )
    source: Listing = Field(description="the images")
    detector: DetectorConfig = Field(description="what marks them")
    output: Output = Field(default=Output(), description="what the shards hold")
    limits: Limits = Field(default=Limits(), description="when a run has gone wrong")
    execution: Execution = Field(default=Execution(), description="pools of workers")

    @field_validator("source")
    @classmethod
    def _unmasked(cls, value: Listing) -> Listing:
        if value.fields.mask is not None:
            raise not_allowed("null: a prediction reads no masks", key="fields")
        wrong = [url for url in value.urls if url.startswith("tinytown/") and url not in SPLITS]
        if wrong and not Path(wrong[0]).exists():
            raise not_allowed(f"{', '.join(SPLITS)}, or data of your own; not {wrong[0]}", key="urls")
        return value


def load_prediction(path: str | Path, overrides: Sequence[str] = ()) -> PredictRecipe:
    """Reads the recipe of a prediction.

    Args:
        path: a file, or the bare name of one of `SHIPPED`.
        overrides: `a.b=c`, the value being YAML; they win over the file.

    Raises:
        RecipeError: it cannot be read, or is wrong; the message lists every mistake with its line.
    """
    file = recipe_file(path, SHIPPED)
    return parse(PredictRecipe, read_file(file, SHIPPED), str(file), overrides)


def shipped_prediction(name: str) -> str:
    """The text of a recipe of `SHIPPED`, with its comments."""
    return read_file(recipe_file(name, SHIPPED), SHIPPED)


def published(recipe: PredictRecipe) -> PredictRecipe:
    """The recipe without the secrets of its URLs. Whatever is written or printed of a recipe is written of this."""
    return recipe.model_copy(update={"source": recipe.source.redacted()})


def dump(recipe: PredictRecipe) -> str:
    """YAML with every default written out; it reads back as an equal recipe, but for the secrets of its URLs."""
    return dump_yaml(published(recipe).model_dump(mode="json"))


def content(recipe: PredictRecipe) -> dict[str, Any]:
    """The half that decides the bytes of the shards, as JSON has it, without the secrets of URLs."""
    return published(recipe).model_dump(mode="json", include=set(CONTENT))
