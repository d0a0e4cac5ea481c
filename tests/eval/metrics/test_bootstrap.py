"""Intervals: merged parts equal the whole, the Poisson resamples agree with drawing images, memory does not grow."""

from __future__ import annotations

import math

import numpy as np
import pytest

from actors.errors import EvaluationError
from eval.metrics import Interval, ResampledSums, iou_fg, iou_of
from eval.metrics.bootstrap import interval_of

TABLE = np.random.default_rng(3).integers(0, 40, (70, 3))


def sums_of(numbers: range | list[int], *, seed: int = 0, replicates: int = 1000) -> ResampledSums:
    found = ResampledSums(3, seed=seed, replicates=replicates)
    for number in numbers:
        found.add(number, TABLE[number])
    return found


def test_seven_parts_equal_the_whole_exactly():
    whole = sums_of(range(70))
    parts = [sums_of(range(first, 70, 7)) for first in (3, 0, 6, 1, 5, 2, 4)]
    merged = parts[0]
    for part in parts[1:]:
        merged.merge(part)
    assert merged.images == 70
    assert np.array_equal(merged.totals, TABLE.sum(axis=0))
    assert np.array_equal(merged.replicates(iou_of), whole.replicates(iou_of))
    assert merged.interval(iou_of) == whole.interval(iou_of)


def test_each_replicate_is_a_weighted_sum():
    found = sums_of(range(70), replicates=5)
    weights = np.stack([np.random.default_rng((0, number)).poisson(1.0, 5) for number in range(70)])
    assert np.array_equal(found.replicates(lambda sums: sums[:, 1]), weights.T @ TABLE[:, 1])


def test_the_interval_is_close_to_that_of_drawn_images():
    found, drawn = sums_of(range(70)).interval(iou_of), iou_fg(TABLE)
    assert found.value == drawn.value
    assert found.low == pytest.approx(drawn.low, abs=0.006)
    assert found.high == pytest.approx(drawn.high, abs=0.006)


def test_another_seed_or_other_columns_cannot_be_merged():
    with pytest.raises(EvaluationError, match="same seed"):
        sums_of([0]).merge(sums_of([1], seed=1))
    with pytest.raises(EvaluationError, match=r"\(1000, 3\).*\(1000, 2\)"):
        sums_of([0]).merge(ResampledSums(2))


def test_memory_does_not_grow():
    found = sums_of(range(70), replicates=10)
    held = found._resampled.nbytes + found._totals.nbytes
    for number in range(1000):
        found.add(number, TABLE[number % 70])
        assert len(found._rows) < 64
    assert found._resampled.nbytes + found._totals.nbytes == held and found.images == 1070


def test_undefined_replicates_are_left_out():
    assert interval_of(0.5, np.array([math.nan, 1.0, 1.0])) == Interval(0.5, 1, 1)
    found = interval_of(math.nan, np.array([math.nan]))
    assert math.isnan(found.value) and math.isnan(found.low) and math.isnan(found.high)
