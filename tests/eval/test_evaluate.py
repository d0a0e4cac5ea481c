"""Scores against truth: figures by hand, thresholds by a plain loop, chance by its closed form."""

from __future__ import annotations

import numpy as np
import pytest

from actors.errors import EvaluationError
from eval.evaluate import best_threshold, evaluate, random_iou, threshold_curve

TRUTH = np.array([[[1, 1], [0, 0]], [[0, 0], [0, 0]]], np.bool_)
SCORES = np.array([[[0.9, 0.5], [0.5, 0.2]], [[0.3, 0.1], [0.0, 0.0]]], np.float32)


def test_figures_by_hand():
    found = evaluate(TRUTH, SCORES, 0.5)  # predicted: both true pixels and one more; nothing in the second
    assert found.iou_fg.value == pytest.approx(2 / 3)
    assert found.miou_2class.value == pytest.approx((2 / 3 + 5 / 6) / 2)
    assert found.iou_per_image.value == pytest.approx((2 / 3 + 1) / 2)
    assert found.precision.value == pytest.approx(2 / 3) and found.recall.value == 1
    assert found.f1.value == pytest.approx(4 / 5)
    assert (found.threshold, found.images, found.without_region) == (0.5, 2, 0.5)
    # 0.9 is true; then two at 0.5 enter together, one of them true
    assert found.average_precision == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)


def test_the_curve_and_its_best():
    candidates = (0.1, 0.25, 0.4, 0.6, 1.0)
    assert threshold_curve(TRUTH, SCORES, candidates) == [
        (0.1, pytest.approx(2 / 6)),
        (0.25, pytest.approx(2 / 4)),
        (0.4, pytest.approx(2 / 3)),
        (0.6, pytest.approx(1 / 2)),
        (1.0, 0.0),
    ]
    assert best_threshold(TRUTH, SCORES, candidates) == 0.4
    assert best_threshold(TRUTH, SCORES, (0.5, 0.4)) == 0.5
    assert best_threshold(TRUTH, SCORES) == 0.32  # the first of the grid above 0.3
    with pytest.raises(EvaluationError, match="no threshold to choose"):
        best_threshold(TRUTH, SCORES, ())


@pytest.mark.parametrize("wrong", [np.nan, -0.1, 1.5])
def test_scores_that_are_none(wrong: float):
    scores = SCORES.copy()
    scores[1, 0, 0] = wrong
    with pytest.raises(EvaluationError, match="numbers from 0 to 1"):
        evaluate(TRUTH, scores, 0.5)


def test_shapes_that_differ():
    with pytest.raises(EvaluationError, match="one shape"):
        evaluate(TRUTH, SCORES[:1], 0.5)


def test_chance_where_it_is_known():
    """Single pixels at independent places on 4 x 4 meet in one of 16 cases."""
    truth, predicted = (np.zeros((50, 4, 4), np.bool_) for _ in range(2))
    truth[:, 1, 2] = predicted[:, 1, 2] = True
    found = random_iou(truth, predicted, draws=300)
    hits = 50 / 16
    assert found.value == pytest.approx(hits / (100 - hits), rel=0.1)
    assert 0 <= found.low < found.value < found.high < 0.15
    assert random_iou(truth, predicted, draws=300) == found
    assert random_iou(truth, predicted, draws=300, seed=1) != found


def test_chance_without_moving():
    truth = np.zeros((2, 4, 4), np.bool_)
    truth[0, 0, :3] = truth[1, 0, 2:] = True  # they share one pixel of the four that either has
    swapped = random_iou(truth, truth, draws=3, shift=False)
    assert swapped.value == swapped.low == swapped.high == pytest.approx(2 / 8)
    assert random_iou(truth, truth, draws=3, swap=False, shift=False).value == 1
    alone = random_iou(truth[:1], truth[:1], draws=50, swap=False)
    assert 0 < alone.value < 0.5


def test_chance_keeps_all_areas():
    """A full mask stays full wherever it goes: one image full, one empty, against the truth that all is full."""
    predicted = np.zeros((2, 4, 4), np.bool_)
    predicted[0] = True
    assert random_iou(np.ones_like(predicted), predicted, draws=5).value == 0.5


def test_chance_where_all_is_empty():
    assert random_iou(np.zeros_like(TRUTH), np.zeros_like(TRUTH), draws=2).value == 1


def test_ignored_pixels_count_nowhere():
    """All figures are those of the images without their ignored columns."""
    rng = np.random.default_rng(0)
    truth, scores = rng.random((6, 8, 9)) < 0.4, rng.random((6, 8, 9)).astype(np.float32)
    ignored = np.zeros(truth.shape, np.bool_)
    ignored[:, :, 5:] = True
    assert evaluate(truth, scores, 0.5, ignored=ignored) == evaluate(truth[..., :5], scores[..., :5], 0.5)
    some = ignored.copy()
    some[3:] = False
    found = evaluate(truth, scores, 0.5, ignored=some)
    whole = [evaluate(truth[3:], scores[3:], 0.5), evaluate(truth[:3, :, :5], scores[:3, :, :5], 0.5)]
    assert found.iou_per_image.value == pytest.approx(np.mean([one.iou_per_image.value for one in whole]))
    hits = sum(int((truth[s] & (scores[s] >= 0.5) & ~some[s]).sum()) for s in range(6))
    union = sum(int(((truth[s] | (scores[s] >= 0.5)) & ~some[s]).sum()) for s in range(6))
    either = [
        int((~some[s]).sum()) - int(((truth[s] & (scores[s] >= 0.5)) & ~some[s]).sum()) for s in range(6)
    ]
    background = sum(int((~truth[s] & ~(scores[s] >= 0.5) & ~some[s]).sum()) for s in range(6))
    assert found.iou_fg.value == pytest.approx(hits / union)
    assert found.miou_2class.value == pytest.approx((hits / union + background / sum(either)) / 2)


def test_chance_does_not_count_what_is_moved_onto_ignored_pixels():
    predicted, truth, ignored = (np.zeros((2, 4, 4), np.bool_) for _ in range(3))
    predicted[:], truth[:, :2], ignored[:, 1:] = True, True, True
    assert random_iou(truth, predicted, draws=3, ignored=ignored).value == 1, "all that counts is true"
    ignored[:, 1:], ignored[:, 3:] = False, True
    assert random_iou(truth, predicted, draws=3, ignored=ignored).value == pytest.approx(2 / 3)
