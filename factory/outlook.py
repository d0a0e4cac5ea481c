"""What a recipe would do, without doing it. Imports neither torch nor ray."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from factory.recipe import Recipe
from factory.sources import open_source


@dataclass(frozen=True)
class StageOutlook:
    """One stage of the pipeline: what it does, and what its workers take each."""

    name: str
    what: str
    smallest: int
    largest: int
    cpus: float
    gpus: float


@dataclass(frozen=True)
class Outlook:
    """A recipe's work, before any of it is done."""

    name: str
    items: int
    shards: int
    per_shard: int
    skipped: Mapping[str, int]
    stages: tuple[StageOutlook, ...]
    unet_rows: int
    unet_rows_explained: str


def outlook(recipe: Recipe) -> Outlook:
    """Lists the source and adds up. Nothing is written, no model is loaded.

    Raises:
        SourceError: the source cannot be listed.
    """
    source = open_source(recipe.source, recipe.seed)
    items = sum(1 for _ in source.list())
    per_shard = recipe.output.samples_per_shard
    rows, explained = unet_rows(recipe)
    return Outlook(
        name=recipe.name,
        items=items,
        shards=-(-items // per_shard),
        per_shard=per_shard,
        skipped=dict(source.skipped),
        stages=_stages(recipe),
        unet_rows=rows,
        unet_rows_explained=explained,
    )


def unet_rows(recipe: Recipe) -> tuple[int, str]:
    """UNet evaluations of a sample that is accepted at the first draw, and how they add up."""
    k, iterations = recipe.corruption.inversion_steps, recipe.corruption.iterations
    inversion = k * (iterations + 1)
    return inversion + 2 * k, f"inversion {inversion}, round trip {k}, resampling {k}"


def _stages(recipe: Recipe) -> tuple[StageOutlook, ...]:
    regions = recipe.regions.checkpoint or "the source's masks"
    corruption = recipe.corruption
    what = {
        "load": f"{recipe.source.kind}, decode, {recipe.source.size} x {recipe.source.size} pixels",
        "select": f"regions from {regions}",
        "corrupt": f"{corruption.method}, k = {corruption.inversion_steps}, {corruption.model}, then verify",
        "write": f"shards of {recipe.output.samples_per_shard}",
    }
    stages = []
    for name, words in what.items():
        stage = getattr(recipe.execution, name)
        stages.append(StageOutlook(name, words, stage.smallest, stage.largest, stage.cpus, stage.gpus))
    return tuple(stages)
