"""Reads, decodes and collates the batches of coming steps on threads, while the network works on the present one."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Generic

from train.task import Batch, Example, Read, Task


@dataclass(frozen=True)
class Step(Generic[Batch]):
    """This worker's part of a step.

    Attributes:
        number: of the step, counted from 0.
        batches: micro-batches on the CPU, at least one.
        reads: the slots, in order.
        waited: seconds that the training waited for them.
    """

    number: int
    batches: list[Batch]
    reads: Sequence[Read[Any]]
    waited: float


class Feed(Generic[Example, Batch]):
    """Iterates over the steps from a given one on; a context manager, which ends its threads.

    Args:
        task: gives examples and batches.
        slots: of a step that are this worker's.
        micro_batch: slots in a micro-batch; None takes all at once.
        threads: that read and decode.
        first, last: steps, the last one excluded.
        ahead: steps that are read in advance.
    """

    def __init__(
        self,
        task: Task[Example, Batch],
        slots: range,
        *,
        micro_batch: int | None,
        threads: int,
        first: int,
        last: int,
        ahead: int = 4,
    ) -> None:
        self._task = task
        size = micro_batch or len(slots)
        self._groups = [slots[start : start + size] for start in range(0, len(slots), size)]
        self._last = last
        self._next = first
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="feed")
        self._waiting: deque[tuple[int, list[Future[tuple[Batch, list[Read[Example]]]]]]] = deque()
        self._ahead = ahead

    def __enter__(self) -> Feed[Example, Batch]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def __iter__(self) -> Iterator[Step[Batch]]:
        self._fill()
        while self._waiting:
            number, futures = self._waiting.popleft()
            began = time.monotonic()
            groups = [future.result() for future in futures]
            waited = time.monotonic() - began
            self._fill()
            reads = [read for _, part in groups for read in part]
            yield Step(number, [batch for batch, _ in groups], reads, waited)

    def _fill(self) -> None:
        while self._next < self._last and len(self._waiting) < self._ahead:
            number = self._next
            self._next += 1
            futures = [self._pool.submit(self._make, number, group) for group in self._groups]
            self._waiting.append((number, futures))

    def _make(self, number: int, group: range) -> tuple[Batch, list[Read[Example]]]:
        reads = [self._task.read(number, slot) for slot in group]
        return self._task.collate([read.example for read in reads if read.example is not None]), reads
