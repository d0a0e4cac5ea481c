"""One worker of a stage, around any work on the items of a shard: admission, crash marks, time, progress, metrics."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar, Generic, TypeVar

import pyarrow as pa

from actors.batch import Sample
from actors.errors import Reject
from actors.stage_names import StageName
from factory.output.schema import from_table, to_table
from factory.pipeline.admission import Admission
from factory.pipeline.crash_marks import CrashMarks
from factory.pipeline.in_flight import ItemCounter
from factory.pipeline.run_context import RunContext
from factory.run.metrics import Meter
from factory.store.storage import Storage

Item = TypeVar("Item")
Work = Callable[[list[Sample]], list[Sample]]


class ShardWork(Generic[Item]):
    """Calls the work of a stage on one shard after the other.

    Args:
        context: of the run.
        stage: its name.
        work: one sample for every item, in order.
        set_aside: the sample of an item that has ended its process several times.
        has_work: whether the stage has anything to do for an item.
        roles: of the models that the stage loads, as `Identity.models` names them.

    Attributes:
        items: counts finished items, for the progress view.
        meter: the stage's metrics.
    """

    def __init__(
        self,
        context: RunContext,
        stage: StageName,
        work: Callable[[list[Item]], list[Sample]],
        set_aside: Callable[[Item, Reject], Sample],
        *,
        has_work: Callable[[Item], bool] = lambda item: True,
        roles: tuple[str, ...] = (),
    ) -> None:
        storage = Storage(context.url, run=context.run)
        self.admit = Admission(context, storage, stage, roles)
        self.items = ItemCounter(context.url)
        self.meter = Meter(stage)
        self._crash_marks = CrashMarks(storage, stage, work, set_aside, has_work)
        self._has_work = has_work

    def __call__(self, shard: int, items: list[Item]) -> tuple[list[Sample], float]:
        """The samples of a shard, and the seconds that the work took."""
        decided_before = sum(not self._has_work(item) for item in items)
        began = time.monotonic()
        with self.items.shard(shard):
            samples = self._crash_marks(shard, items)
        seconds = time.monotonic() - began
        rejected = sum(sample.rejected for sample in samples)
        outcomes = {"passed": len(samples) - rejected, "rejected": rejected - decided_before}
        self.meter.worked(outcomes, seconds)
        return samples, seconds


class SampleStage(ABC):
    """A stage in the middle of a pipeline: takes the samples of a shard and passes them on, changed or rejected.

    The model is loaded at the first call: an error then reaches the driver as it is, while one in the constructor
    would arrive as the death of an actor.

    Attributes:
        name: of the stage.
        roles: of the models that the stage loads.
    """

    name: ClassVar[StageName]
    roles: ClassVar[tuple[str, ...]] = ()

    def __init__(self, context: RunContext) -> None:
        self.shard_work: ShardWork[Sample] = ShardWork(
            context, self.name, self.work, self._set_aside, has_work=_undecided, roles=self.roles
        )
        self._made: Work | None = None

    def __call__(self, table: pa.Table) -> pa.Table:
        hardware = self.shard_work.admit()
        if self._made is None:
            self._made = self.make()
        shard = from_table(table)
        if hardware:
            shard.hardware[self.name] = hardware
        rows = _unet_rows(shard.samples)
        shard.samples, shard.seconds[self.name] = self.shard_work(shard.number, shard.samples)
        self.shard_work.meter.evaluated(_unet_rows(shard.samples) - rows)
        return to_table(shard)

    @abstractmethod
    def make(self) -> Work:
        """Load what the work needs, and return the work."""

    def work(self, samples: list[Sample]) -> list[Sample]:
        """Work on samples; rejected ones pass through."""
        assert self._made is not None
        return self._made(samples)

    def _set_aside(self, sample: Sample, why: Reject) -> Sample:
        if not sample.rejected:
            sample.reject(self.name, why)
        return sample


def _undecided(sample: Sample) -> bool:
    return not sample.rejected


def _unet_rows(samples: Sequence[Sample]) -> int:
    return sum(sample.unet_rows for sample in samples)
