"""The stages as Ray Data calls them: thin wrappers that take a shard's row, time the work, and return the row."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import pyarrow as pa

from actors.batch import Sample
from actors.errors import Reject
from actors.image_selector import ImageSelector
from actors.masks import MaskReading
from actors.stage_names import StageName
from factory.output.identity import Identity, devices_of, judge_threshold, read_identity, weights_of
from factory.output.plan import read_plan
from factory.output.schema import ShardOfSamples, from_table, to_table
from factory.output.shards.further import Further
from factory.output.shards.writer import Provenance, write_shard
from factory.pipeline.admission import Admission, pinned
from factory.pipeline.run_context import RunContext
from factory.pipeline.shard_work import SampleStage, ShardWork, Work
from factory.recipe.recipe import Recipe
from factory.run.metrics import Meter
from factory.sources import Reference, Source, open_source
from factory.store.storage import Storage

if TYPE_CHECKING:
    from actors.corruption.judge import Judge
    from actors.segmentation.segmenter import Segmenter


Select = Callable[[Sample, bytes, bytes | None], object]


class LoadItems:
    """Shard number in; its items out, decoded, checked and encoded again.

    Args:
        context: of the run.
        source: of the items.
        select: see `load`.
    """

    name = StageName.LOAD

    def __init__(self, context: RunContext, source: Source, select: Select) -> None:
        self.load = partial(load, source, select=select)
        self.shard_work: ShardWork[Reference] = ShardWork(context, self.name, self._work, self._set_aside)
        self.plan = read_plan(Storage(context.url, run=context.run))

    def __call__(self, table: pa.Table) -> pa.Table:
        self.shard_work.admit()
        number = table["shard"][0].as_py()
        samples, seconds = self.shard_work(number, self.plan.shard(number))
        return to_table(ShardOfSamples(number, samples, {self.name: seconds}))

    def _work(self, references: list[Reference]) -> list[Sample]:
        samples = self.load(references)
        self.shard_work.items.add(self.name, len(samples))
        return samples

    def _set_aside(self, reference: Reference, why: Reject) -> Sample:
        sample = Sample(reference.key, reference.url, reference.caption)
        sample.reject(self.name, why)
        return sample


class Load(LoadItems):
    """The items of a build, brought to the size of its recipe."""

    def __init__(self, recipe: Recipe, url: str, identity: Identity, run: str = "") -> None:
        context = run_context(recipe, url, identity, run)
        super().__init__(context, open_source(recipe.source, recipe.seed), image_selector(recipe))


class _RecipeStage(SampleStage):
    """A stage in the middle of a build, with its models at the commits that the run's identity names."""

    def __init__(self, recipe: Recipe, url: str, identity: Identity, run: str = "") -> None:
        super().__init__(run_context(recipe, url, identity, run))
        self.recipe = pinned(recipe, identity)


class SelectRegions(_RecipeStage):
    """Fills the masks."""

    name = StageName.SELECT
    roles = ("detector", "regions")

    def make(self) -> Work:
        return region_selector(self.recipe)

    def work(self, samples: list[Sample]) -> list[Sample]:
        selected = super().work(samples)
        self.shard_work.items.add(self.name, len(selected))
        return selected


class Corrupt(_RecipeStage):
    """Makes and checks the artifacts."""

    name = StageName.CORRUPT
    roles = ("corruption", "judge")

    def make(self) -> Work:
        return corruptor(self.recipe, self.shard_work.items.add)


class Write:
    """Publishes a shard and returns its number."""

    name = StageName.WRITE

    def __init__(self, recipe: Recipe, url: str, identity: Identity, run: str = "") -> None:
        self.storage = Storage(url, run=run)
        self.admit = Admission(run_context(recipe, url, identity, run), self.storage, self.name)
        self.plan = read_plan(self.storage)
        self.plan_sha256 = {
            version.number: read_identity(self.storage, version.number)[1] for version in self.plan.versions
        }
        self.how = provenance(recipe, identity.digest)
        self.original = recipe.output.original
        self.meter = Meter(self.name)

    def __call__(self, table: pa.Table) -> pa.Table:
        self.admit()
        began = time.monotonic()
        shard = from_table(table)
        planned = self.plan.size(shard.number)
        assert len(shard.samples) == planned, f"shard {shard.number}: {len(shard.samples)} of {planned} items"
        how = replace(self.how, plan_sha256=self.plan_sha256[self.plan.version_of(shard.number).number])
        sidecar = write_shard(self.storage, shard, how, original=self.original)
        self.meter.worked(
            {"accepted": sidecar.accepted, "rejected": sidecar.rejected}, time.monotonic() - began
        )
        self.meter.wrote(sidecar)
        return pa.table({"shard": [shard.number]})


def run_context(recipe: Recipe, url: str, identity: Identity, run: str = "") -> RunContext:
    """What the workers of a build know about it."""
    return RunContext(
        url=url,
        identity=identity,
        weights=weights_of(recipe),
        devices=devices_of(recipe),
        same_hardware=recipe.execution.hardware == "same",
        run=run,
    )


def load(source: Source, references: Sequence[Reference], select: Select) -> list[Sample]:
    """Reads items from their source and selects the images; every reference gives one sample, in its order.

    Args:
        select: given a sample, the bytes of its image, and of its mask if there is one: fills or rejects the sample.
    """
    samples = []
    for reference, raw in source.read(references):
        sample = Sample(reference.key, reference.url, reference.caption)
        if isinstance(raw, Reject):
            sample.reject(StageName.SELECT_IMAGE, raw)
        else:
            sample.caption = raw.caption or sample.caption
            select(sample, raw.image, raw.mask)
        samples.append(sample)
    return samples


def image_selector(recipe: Recipe) -> ImageSelector:
    masks = MaskReading(**recipe.source.masks.model_dump())
    return ImageSelector(recipe.selection, size=recipe.source.size, masks=masks)


def region_selector(recipe: Recipe) -> Work:
    """Leave out images that have artifacts already, if the recipe requires it, and find the regions of the rest.

    Loads the segmenters that the recipe names; torch is imported only then.
    """
    from actors.segmentation.artifact_filter import ArtifactFilter
    from actors.segmentation.region_selector import RegionSelector

    regions, selection = recipe.regions, recipe.selection
    scores = None
    if regions.checkpoint is not None:
        scores = segmenter(recipe, "regions", batch_size=regions.batch_size)
    select = RegionSelector(regions, scores, seed=recipe.seed)
    if selection.detector is None:
        return select
    detector = segmenter(recipe, "detector", batch_size=regions.batch_size)
    leave_out = ArtifactFilter(selection, detector, batch_size=regions.batch_size)
    return lambda samples: select(leave_out(samples))


def segmenter(recipe: Recipe, role: str, *, batch_size: int) -> Segmenter:
    """Loads the segmenter of a role onto its device."""
    from actors.arithmetic import fix_arithmetic
    from actors.segmentation.segmenter import Segmenter

    fix_arithmetic(recipe.corruption.threads)
    checkpoint, revision = weights_of(recipe)[role]
    device = devices_of(recipe)[role]
    return Segmenter(checkpoint, revision=revision, batch_size=batch_size, device=device)


def judge_of(recipe: Recipe) -> Judge | None:
    """Loads the judge, if the recipe names one."""
    from actors.corruption.judge import Judge

    config, threshold = recipe.verify.judge, judge_threshold(recipe)
    if config is None or threshold is None:
        return None
    return Judge(config, segmenter(recipe, "judge", batch_size=config.batch_size), threshold=threshold)


def corruptor(recipe: Recipe, count: Callable[[str, int], None] = lambda step, items: None) -> Work:
    """Loads the diffusion model, and the judge, if the recipe names one.

    Args:
        recipe: what to do.
        count: see `actors.corruption.corruptor.Corruptor`.
    """
    from actors.arithmetic import fix_arithmetic
    from actors.corruption.corruptor import Corruptor, load_model

    fix_arithmetic(recipe.corruption.threads)
    model = load_model(recipe.corruption, device=devices_of(recipe)["corruption"])
    model.check_size(recipe.source.size)
    judge = judge_of(recipe)
    return Corruptor(model, recipe.corruption, recipe.verify, seed=recipe.seed, judge=judge, count=count)


def provenance(recipe: Recipe, digest: str) -> Provenance:
    settings = recipe.corruption
    return Provenance(
        digest,
        settings.method,
        settings.inference_steps,
        further=Further(judge=recipe.verify.judge is not None, share=recipe.regions.share < 1),
    )
