"""The stages as Ray Data calls them: thin wrappers that take a shard's row, time the work, and return the row."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import pyarrow as pa

from actors.batch import Sample
from actors.errors import Reject
from actors.image_selector import STAGE as IMAGE_STAGE
from actors.image_selector import ImageSelector
from actors.masks import MaskReading
from factory.output.identity import Identity, devices_of, read_identity
from factory.output.plan import read_plan
from factory.output.schema import ShardOfSamples, from_table, to_table
from factory.output.shards.writer import Provenance, write_shard
from factory.pipeline.admission import Admission, pinned
from factory.pipeline.crash_marks import Attempts
from factory.pipeline.in_flight import ItemCounter
from factory.recipe.recipe import Recipe
from factory.run.metrics import Meter
from factory.sources import Reference, Source, open_source
from factory.store.storage import Storage

if TYPE_CHECKING:
    from actors.segmentation.segmenter import Segmenter

Work = Callable[[list[Sample]], list[Sample]]


class Load:
    """Shard number in; its items out, decoded, checked, brought to size and encoded again."""

    name = "load"

    def __init__(self, recipe: Recipe, url: str, identity: Identity, run: str = "") -> None:
        storage = Storage(url, run=run)
        self.admit = Admission(recipe, identity, storage, self.name)
        self.plan = read_plan(storage)
        source, select = open_source(recipe.source, recipe.seed), image_selector(recipe)
        self.attempts = Attempts(storage, self.name, partial(load, source, select=select), self._set_aside)
        self.meter = Meter(self.name)
        self.items = ItemCounter(url)

    def __call__(self, table: pa.Table) -> pa.Table:
        self.admit()
        began = time.monotonic()
        number = table["shard"][0].as_py()
        with self.items.shard(number):
            samples = self.attempts(number, self.plan.shard(number))
            self.items.add(self.name, len(samples))
        seconds = time.monotonic() - began
        self.meter.worked(_outcomes(samples), seconds)
        return to_table(ShardOfSamples(number, samples, {self.name: seconds}))

    def _set_aside(self, reference: Reference, why: Reject) -> Sample:
        sample = Sample(reference.key, reference.url, reference.caption)
        sample.reject(self.name, why)
        return sample


class _Work(ABC):
    """Applies one piece of work to the samples of a shard, and notes the time.

    The model is loaded at the first call: an error then reaches the driver as it is, while one in the constructor
    would arrive as the death of an actor.
    """

    name: str
    roles: tuple[str, ...]

    def __init__(self, recipe: Recipe, url: str, identity: Identity, run: str = "") -> None:
        storage = Storage(url, run=run)
        self.admit = Admission(recipe, identity, storage, self.name, self.roles)
        self.recipe = pinned(recipe, identity)
        self.work: Work | None = None
        self.attempts = Attempts(storage, self.name, self._work, self._set_aside, _undecided)
        self.meter = Meter(self.name)
        self.items = ItemCounter(url)

    def __call__(self, table: pa.Table) -> pa.Table:
        hardware = self.admit()
        if self.work is None:
            self.work = self.make()
        shard = from_table(table)
        if hardware:
            shard.hardware[self.name] = hardware
        rejected, rows = _rejected(shard.samples), _unet_rows(shard.samples)
        began = time.monotonic()
        with self.items.shard(shard.number):
            shard.samples = self.attempts(shard.number, shard.samples)
        shard.seconds[self.name] = time.monotonic() - began
        self.meter.worked(_outcomes(shard.samples, before=rejected), shard.seconds[self.name])
        self.meter.evaluated(_unet_rows(shard.samples) - rows)
        return to_table(shard)

    @abstractmethod
    def make(self) -> Work:
        """Loads what the work needs."""

    def _work(self, samples: list[Sample]) -> list[Sample]:
        assert self.work is not None
        return self.work(samples)

    def _set_aside(self, sample: Sample, why: Reject) -> Sample:
        if not sample.rejected:
            sample.reject(self.name, why)
        return sample


class SelectRegions(_Work):
    """Fills the masks."""

    name = "select"
    roles = ("detector", "regions")

    def make(self) -> Work:
        return region_selector(self.recipe)

    def _work(self, samples: list[Sample]) -> list[Sample]:
        selected = super()._work(samples)
        self.items.add(self.name, len(selected))
        return selected


class Corrupt(_Work):
    """Makes and checks the artifacts."""

    name = "corrupt"
    roles = ("corruption",)

    def make(self) -> Work:
        return corruptor(self.recipe, self.items.add)


class Write:
    """Publishes a shard and returns its number."""

    name = "write"

    def __init__(self, recipe: Recipe, url: str, identity: Identity, run: str = "") -> None:
        self.storage = Storage(url, run=run)
        self.admit = Admission(recipe, identity, self.storage, self.name)
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


def load(source: Source, references: Sequence[Reference], select: ImageSelector) -> list[Sample]:
    """Reads items from their source and selects the images; every reference gives one sample, in its order."""
    samples = []
    for reference, raw in source.read(references):
        sample = Sample(reference.key, reference.url, reference.caption)
        if isinstance(raw, Reject):
            sample.reject(IMAGE_STAGE, raw)
        else:
            sample.caption = raw.caption or sample.caption
            select(sample, raw.image, raw.mask)
        samples.append(sample)
    return samples


def image_selector(recipe: Recipe) -> ImageSelector:
    masks = MaskReading(**recipe.source.masks.model_dump())
    return ImageSelector(recipe.selection, size=recipe.source.size, masks=masks)


def region_selector(recipe: Recipe) -> Work:
    """Leaves out what has artifacts already, where the recipe asks for it, and finds the regions of the rest.

    Loads the segmenters that the recipe names; torch is imported only then.
    """
    from actors.segmentation.artifact_filter import ArtifactFilter
    from actors.segmentation.region_selector import RegionSelector

    regions, selection = recipe.regions, recipe.selection
    scores = None
    if regions.checkpoint is not None:
        scores = segmenter(recipe, "regions", regions.checkpoint, regions.revision)
    select = RegionSelector(regions, scores)
    if selection.detector is None:
        return select
    detector = segmenter(recipe, "detector", selection.detector, selection.detector_revision)
    leave_out = ArtifactFilter(selection, detector, batch_size=regions.batch_size)
    return lambda samples: select(leave_out(samples))


def segmenter(recipe: Recipe, role: str, checkpoint: str, revision: str | None) -> Segmenter:
    """Loads a segmenter onto the device of its role."""
    from actors.arithmetic import fix_arithmetic
    from actors.segmentation.segmenter import Segmenter

    fix_arithmetic(recipe.corruption.threads)
    device = devices_of(recipe)[role]
    return Segmenter(checkpoint, revision=revision, batch_size=recipe.regions.batch_size, device=device)


def corruptor(recipe: Recipe, count: Callable[[str, int], None] = lambda step, items: None) -> Work:
    """Loads the diffusion model.

    Args:
        recipe: what to do.
        count: see `actors.corruption.corruptor.Corruptor`.
    """
    from actors.arithmetic import fix_arithmetic
    from actors.corruption.corruptor import Corruptor, load_model

    fix_arithmetic(recipe.corruption.threads)
    model = load_model(recipe.corruption, device=devices_of(recipe)["corruption"])
    model.check_size(recipe.source.size)
    return Corruptor(model, recipe.corruption, recipe.verify, seed=recipe.seed, count=count)


def _undecided(sample: Sample) -> bool:
    return not sample.rejected


def _rejected(samples: Sequence[Sample]) -> int:
    return sum(sample.rejected for sample in samples)


def _unet_rows(samples: Sequence[Sample]) -> int:
    return sum(sample.unet_rows for sample in samples)


def _outcomes(samples: Sequence[Sample], before: int = 0) -> dict[str, int]:
    """Items that a stage passed and rejected; `before`: how many came rejected already."""
    rejected = _rejected(samples)
    return {"passed": len(samples) - rejected, "rejected": rejected - before}


def provenance(recipe: Recipe, digest: str) -> Provenance:
    settings = recipe.corruption
    return Provenance(digest, settings.method, settings.inference_steps)
