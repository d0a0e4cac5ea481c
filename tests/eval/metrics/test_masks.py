"""Measures of masks: counts by hand, the bootstrap against a plain loop, scikit-learn and torchmetrics."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import f1_score, jaccard_score, precision_score, recall_score

from actors.errors import EvaluationError
from eval import metrics
from eval.metrics import Interval

TABLE = np.array([[6, 2, 0], [0, 0, 4], [3, 1, 4]], np.int64)  # sums 9, 3, 8


def masks(*rows: str) -> NDArray[np.bool_]:
    """One image per argument, its rows parted by spaces."""
    return np.array([[[pixel == "#" for pixel in row] for row in image.split()] for image in rows])


def test_counts_of_small_masks():
    truth = masks("##. ...", "... ...", ".## .##")
    predicted = masks(".## ...", "#.. ...", ".## .##")
    assert metrics.counts(truth, predicted).tolist() == [[1, 1, 1], [0, 1, 0], [4, 0, 0]]


def test_measures_by_hand():
    assert metrics.iou_fg(TABLE).value == 9 / 20
    assert metrics.pooled_iou(TABLE) == 9 / 20
    assert metrics.f1(TABLE).value == pytest.approx(18 / 29)
    assert metrics.precision(TABLE).value == 9 / 12
    assert metrics.recall(TABLE).value == 9 / 17
    assert metrics.iou_per_image(TABLE).value == pytest.approx((6 / 8 + 0 + 3 / 8) / 3)
    # 3 images of 16 pixels: 48 - 20 are neither predicted nor true
    assert metrics.miou_2class(TABLE, 16).value == pytest.approx((9 / 20 + 28 / 39) / 2)


def test_the_rule_where_there_is_nothing_to_divide_by():
    nothing = np.zeros((2, 3), np.int64)
    missed, invented, whole = (np.array([row] * 2, np.int64) for row in ([0, 0, 5], [0, 5, 0], [16, 0, 0]))
    for measure in (metrics.iou_fg, metrics.f1, metrics.precision, metrics.recall, metrics.iou_per_image):
        assert measure(nothing) == Interval(1, 1, 1)
        assert measure(missed) == measure(invented) == Interval(0, 0, 0)
    assert metrics.miou_2class(nothing, 16).value == 1
    assert metrics.miou_2class(whole, 16).value == 1  # no background anywhere, and none is predicted
    mixed = np.array([[0, 0, 0], [0, 0, 5]], np.int64)
    assert metrics.iou_per_image(mixed).value == 0.5
    assert metrics.iou_fg(mixed) == Interval(0, 0, 1)  # a quarter of the resamples see the empty image alone


def test_the_interval_is_that_of_a_plain_bootstrap():
    rng = np.random.default_rng(3)
    table = rng.integers(0, 40, (30, 3))
    found = metrics.iou_fg(table)
    values = []
    for _ in range(2000):
        drawn = table[rng.integers(0, 30, 30)].sum(axis=0)
        values.append(drawn[0] / drawn.sum())
    low, high = np.percentile(values, [2.5, 97.5])
    assert found.low < found.value < found.high
    assert found.low == pytest.approx(low, abs=0.006)
    assert found.high == pytest.approx(high, abs=0.006)


def test_the_seed_decides():
    table = np.random.default_rng(0).integers(0, 40, (12, 3))
    assert metrics.iou_fg(table, seed=1) == metrics.iou_fg(table, seed=1)
    assert metrics.iou_fg(table, seed=1) != metrics.iou_fg(table, seed=2)


def test_all_images_equal_leave_no_doubt():
    table = np.array([[3, 1, 2]] * 7, np.int64)
    assert metrics.iou_fg(table) == Interval(0.5, 0.5, 0.5)


@pytest.mark.parametrize(("truth", "predicted"), [((2, 4, 4), (2, 4, 5)), ((0, 4, 4), (0, 4, 4))])
def test_masks_that_cannot_be_counted(truth: tuple[int, ...], predicted: tuple[int, ...]):
    with pytest.raises(EvaluationError, match=r"must be masks \[N, H, W\]"):
        metrics.counts(np.zeros(truth, np.bool_), np.zeros(predicted, np.bool_))


def test_agreement_by_hand():
    one, two = masks("##. ...")[0], masks(".## ...")[0]
    nothing = np.zeros_like(one)
    marks = np.array([[one, one, two], [nothing, nothing, one]])
    # pairs: 1, 1/3, 1/3; both empty counts 1, and twice one against nothing counts 0
    assert metrics.agreement(marks) == pytest.approx((1 + 1 / 3 + 1 / 3 + 1 + 0 + 0) / 6)
    with pytest.raises(EvaluationError, match="two people"):
        metrics.agreement(marks[:, :1])


def test_measures_per_image_by_hand():
    found = metrics.mean_per_image(TABLE, metrics.precision_of)
    assert found.value == pytest.approx((6 / 8 + 0 + 3 / 4) / 3)
    assert metrics.mean_per_image(TABLE, metrics.recall_of).value == pytest.approx((1 + 0 + 3 / 7) / 3)
    assert metrics.mean_per_image(TABLE, metrics.f1_of).value == pytest.approx((12 / 14 + 0 + 6 / 11) / 3)
    nothing = np.zeros((1, 3), np.int64)
    assert metrics.mean_per_image(nothing, metrics.f1_of) == Interval(1, 1, 1)


def random_masks() -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Some with an empty truth, some with an empty prediction, one with both, one predicted everywhere."""
    rng = np.random.default_rng(8)
    truth, predicted = rng.random((12, 9, 9)) < 0.2, rng.random((12, 9, 9)) < 0.3
    truth[:3], predicted[2:5], predicted[6] = False, False, True
    return truth, predicted


def test_scikit_learn_agrees():
    truth, predicted = random_masks()
    table = metrics.counts(truth, predicted)
    for ours, theirs in (
        (metrics.iou_fg, jaccard_score),
        (metrics.f1, f1_score),
        (metrics.precision, precision_score),
        (metrics.recall, recall_score),
    ):
        assert ours(table).value == pytest.approx(theirs(truth.ravel(), predicted.ravel()), abs=1e-9)
    wanted = jaccard_score(truth.ravel(), predicted.ravel(), average="macro")
    assert metrics.miou_2class(table, 81).value == pytest.approx(wanted, abs=1e-9)
    for measure, theirs in (
        (metrics.iou_of, jaccard_score),
        (metrics.f1_of, f1_score),
        (metrics.precision_of, precision_score),
        (metrics.recall_of, recall_score),
    ):
        each = [
            theirs(one.ravel(), other.ravel(), zero_division=0.0 if (one | other).any() else 1.0)
            for one, other in zip(truth, predicted, strict=True)
        ]
        assert metrics.mean_per_image(table, measure).value == pytest.approx(np.mean(each), abs=1e-9)


def test_torchmetrics_agrees():
    """It divides counts in float32, so that it differs in the eighth place."""
    functional = pytest.importorskip("torchmetrics.functional.classification")
    torch = pytest.importorskip("torch")
    truth, predicted = random_masks()
    table = metrics.counts(truth, predicted)
    arguments = torch.from_numpy(predicted.ravel()).long(), torch.from_numpy(truth.ravel()).long()
    for ours, theirs in (
        (metrics.iou_fg, functional.binary_jaccard_index),
        (metrics.f1, functional.binary_f1_score),
        (metrics.precision, functional.binary_precision),
        (metrics.recall, functional.binary_recall),
    ):
        assert ours(table).value == pytest.approx(float(theirs(*arguments)), abs=2e-7)
