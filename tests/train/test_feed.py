"""The feed: steps in order, read ahead within bounds, and errors where they belong."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Any

import pytest

from actors.errors import BadSample
from train.feed import Feed
from train.task import Read


class Numbers:
    """Examples are step * 100 + slot; some are bad, some slow."""

    def __init__(self, *, bad: int | None = None, refuse: bool = False) -> None:
        self.bad, self.refuse = bad, refuse
        self.read_steps: set[int] = set()
        self.lock = threading.Lock()

    def read(self, step: int, slot: int) -> Read[int]:
        with self.lock:
            self.read_steps.add(step)
        number = step * 100 + slot
        time.sleep(0.001 * (number * 7 % 3))
        if number == self.bad:
            if self.refuse:
                raise BadSample("damaged", "x.tar, k: damaged")
            return Read("x", "k", None, "damaged")
        return Read("x", str(number), number)

    def collate(self, examples: Sequence[int]) -> tuple[int, ...]:
        return tuple(examples)


def feed(task: Any, slots: range, **settings: Any) -> Feed[int, tuple[int, ...]]:
    return Feed(task, slots, **{"micro_batch": None, "threads": 3, "first": 0, "last": 5, **settings})


@pytest.mark.parametrize(
    ("micro_batch", "parts"),
    [(None, [[2, 3, 4, 5, 6]]), (2, [[2, 3], [4, 5], [6]]), (5, [[2, 3, 4, 5, 6]]), (9, [[2, 3, 4, 5, 6]])],
)
def test_steps_and_micro_batches(micro_batch: int | None, parts: list[list[int]]) -> None:
    with feed(Numbers(), range(2, 7), micro_batch=micro_batch, first=3, last=6) as steps:
        found = list(steps)
    assert [step.number for step in found] == [3, 4, 5]
    for step in found:
        assert step.batches == [tuple(step.number * 100 + slot for slot in part) for part in parts]
        assert [read.key for read in step.reads] == [str(step.number * 100 + slot) for slot in range(2, 7)]
        assert step.waited >= 0


def test_nothing_to_do() -> None:
    with feed(Numbers(), range(2), first=5, last=5) as steps:
        assert list(steps) == []


def test_it_reads_ahead_within_bounds() -> None:
    task = Numbers()
    with feed(task, range(2), last=100, ahead=3) as steps:
        for step in steps:
            # The step itself, and three that have been asked for since.
            assert max(task.read_steps) <= step.number + 3
            if step.number == 20:
                break
    assert max(task.read_steps) <= 23


def test_a_skipped_sample_is_not_in_the_batch() -> None:
    with feed(Numbers(bad=101), range(3)) as steps:
        found = list(steps)
    assert found[1].batches == [(100, 102)]
    assert [read.problem for read in found[1].reads] == ["", "damaged", ""]


def test_an_error_comes_with_its_step_and_ends_the_threads() -> None:
    before = threading.active_count()
    done = []
    with (
        pytest.raises(BadSample, match=r"x\.tar, k: damaged"),
        feed(Numbers(bad=201, refuse=True), range(3)) as steps,
    ):
        for step in steps:
            done.append(step.number)
    assert done == [0, 1] and threading.active_count() == before
