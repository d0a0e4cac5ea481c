"""What a recipe would do, without doing it. Imports neither torch nor ray."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from actors.corruption.config import CorruptionConfig
from actors.diffusion.unet_cost import fast_evaluations, iterated_evaluations
from actors.models import check_inversion
from actors.stage_names import StageName
from factory.recipe.recipe import Recipe
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
        ModelError: the model's schedule cannot be inverted that far.
    """
    check_schedule(recipe)
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


def check_schedule(recipe: Recipe) -> None:
    """Refuses a recipe whose inversion steps the model's noise schedule does not have.

    Raises:
        ModelError: with the largest number that it has.
    """
    corruption = recipe.corruption
    check_inversion(
        corruption.model,
        corruption.revision,
        inference_steps=corruption.inference_steps,
        inversion_steps=max([corruption.inversion_steps, *corruption.deeper]),
    )


def unet_rows(recipe: Recipe) -> tuple[int, str]:
    """UNet evaluations of a sample that is accepted at the first draw, and how they add up."""
    corruption, first = recipe.corruption, recipe.corruption.steps[0]
    if not first:
        return 0, "the image latent is corrupted and decoded"
    to = f" to k = {corruption.steps[-1]}" if corruption.deeper else ""
    parts = {f"inversion{to}": _inversion_rows(corruption)}
    if recipe.verify.baseline == "passage":
        parts["round trip"] = first
    parts["resampling"] = first
    if corruption.guidance_scale > 1:
        parts = {name: 2 * rows for name, rows in parts.items()}
    return sum(parts.values()), ", ".join(f"{name} {rows}" for name, rows in parts.items())


def _inversion_rows(corruption: CorruptionConfig) -> int:
    """Evaluations of one inversion to the largest k, without guidance, on a schedule of 1000 timesteps from 1."""
    deepest, inversion = corruption.steps[-1], corruption.inversion
    if inversion.mode == "fast":
        return sum(fast_evaluations(deepest, inversion.extra))
    stride = 1000 // corruption.inference_steps
    iterations, _, _ = inversion.resolved
    return sum(
        iterated_evaluations(1 + stride * step, iterations, regularised=inversion.regularised)
        for step in range(deepest)
    )


def _stages(recipe: Recipe) -> tuple[StageOutlook, ...]:
    regions = "regions from " + (recipe.regions.checkpoint or "the source's masks")
    if recipe.regions.kind == "none":
        regions = "no regions: clean negatives"
    corruption, selection = recipe.corruption, recipe.selection
    checked = ""
    if selection.largest_artifact_area is not None:
        checked = f"at most {selection.largest_artifact_area:.2%} artifacts by {selection.detector}, then "
    share = recipe.regions.share
    chosen = "" if share == 1 else f", {share:.0%} of them by chance"
    judge = recipe.verify.judge
    verified = "verify" if judge is None else f"verify, judged by {judge.folder}"
    what = {
        StageName.LOAD: f"{recipe.source.kind}, decode, {recipe.source.size} x {recipe.source.size} pixels",
        StageName.SELECT: f"{checked}{regions}{chosen}",
        StageName.CORRUPT: f"{corruption.method}, {_depth(corruption)}, {corruption.model}, then {verified}",
        StageName.WRITE: f"shards of {recipe.output.samples_per_shard}",
    }
    stages = []
    for name, pool in recipe.execution.pools.items():
        stages.append(StageOutlook(name, what[name], pool.smallest, pool.largest, pool.cpus, pool.gpus))
    return tuple(stages)


def _depth(corruption: CorruptionConfig) -> str:
    """Where the latents are broken."""
    if corruption.target == "image":
        return f"image latent at the noise level of k = {corruption.inversion_steps}"
    first, *deeper = corruption.steps
    return ", then ".join([f"k = {first}", *map(str, deeper)])
