"""Paired comparisons: by hand, narrower than the intervals of each, over seeds."""

from __future__ import annotations

import numpy as np
import pytest

from actors.errors import EvaluationError
from eval import metrics
from eval.metrics import Interval, ScoreSums, compare, compare_scores
from eval.metrics.bootstrap import resample_weights

RNG = np.random.default_rng(5)
FIRST = RNG.integers(1, 40, (40, 3))


def test_a_difference_is_paired():
    assert compare(FIRST, FIRST).difference == Interval(0, 0, 0)
    better = FIRST + np.array([1, 0, -1])  # one pixel more of each image is found
    found = compare(better, FIRST)
    assert found.difference.value == metrics.pooled_iou(better) - metrics.pooled_iou(FIRST)
    assert 0 < found.difference.low < found.difference.value < found.difference.high
    alone = metrics.iou_fg(better)
    assert found.difference.high - found.difference.low < (alone.high - alone.low) / 5
    assert found.by_seed == (found.difference.value,)


def test_over_seeds_by_hand():
    """Counts are averaged over seeds before they are pooled; the range is that of the seeds."""
    first = np.array([[[4, 2, 2], [1, 0, 1]], [[2, 4, 4], [1, 1, 0]]])
    second = np.array([[[2, 2, 4], [0, 0, 2]], [[4, 0, 2], [2, 0, 0]]])
    found = compare(first, second)
    assert found.difference.value == pytest.approx(8 / 22 - 8 / 18)
    assert found.by_seed == (pytest.approx(5 / 10 - 2 / 10), pytest.approx(3 / 12 - 6 / 8))
    assert found.seeds == (pytest.approx(-0.5), pytest.approx(0.3))


def test_the_interval_over_seeds_is_that_of_a_plain_loop():
    first, second = RNG.integers(0, 30, (3, 25, 3)), RNG.integers(0, 30, (3, 25, 3))
    values = []
    for weights in np.concatenate(list(resample_weights(25, 0, 60))):
        one, other = ((side.mean(axis=0) * weights[:, None]).sum(axis=0) for side in (first, second))
        values.append(2 * one[0] / (one.sum() + one[0]) - 2 * other[0] / (other.sum() + other[0]))
    found = compare(first, second, metrics.f1_of, resamples=60).difference
    low, high = np.quantile(values, [0.025, 0.975])
    assert (found.low, found.high) == (pytest.approx(low, abs=1e-9), pytest.approx(high, abs=1e-9))


def test_scores_without_a_threshold():
    truth = RNG.random((30, 8, 8)) < 0.3
    noise = RNG.random((30, 8, 8))

    def sums(signal: float, shift: float) -> ScoreSums:
        found = ScoreSums()
        for number in range(30):
            scores = np.clip(noise[number] * 0.6 + signal * truth[number] + shift, 0, 1)
            found.add(number, truth[number], scores, where="")
        return found

    good, same, bad = sums(0.3, 0.1), sums(0.3, 0.1), sums(0.25, 0)
    assert compare_scores([good], [same]).difference == Interval(0, 0, 0)
    found = compare_scores([good, good], [bad, same])
    wanted = good.average_precision().value - bad.average_precision().value
    assert found.difference.value == pytest.approx(wanted / 2) and found.seeds == (0, pytest.approx(wanted))
    assert 0 < found.difference.low < found.difference.high
    alone = good.average_precision()
    assert found.difference.high - found.difference.low < (alone.high - alone.low) / 2


def test_other_images_cannot_be_compared():
    with pytest.raises(EvaluationError, match=r"same N images.*found \(40, 3\) and \(39, 3\)"):
        compare(FIRST, FIRST[:-1])
    with pytest.raises(EvaluationError, match=r"found \[0\] and \[0, 0\] images"):
        compare_scores([ScoreSums()], [ScoreSums(), ScoreSums()])
