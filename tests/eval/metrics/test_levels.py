"""Threshold-free measures: by hand on 4x4 maps, and against scikit-learn and torchmetrics on quantised maps."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score

from actors.errors import EvaluationError
from eval import metrics
from eval.metrics import ScoreSums, levels

CASES = ("ordinary", "few levels", "constant", "all positive", "separated")


def maps(case: str) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Truth and scores, the scores on whole levels."""
    rng = np.random.default_rng(11)
    truth = rng.random((7, 16, 16)) < 0.1
    truth[3] = False
    scores = np.clip(rng.normal(0.3 + 0.2 * truth, 0.2), 0, 1)
    if case == "few levels":
        scores = np.round(scores * 4) / 4
    elif case == "constant":
        scores = np.full(truth.shape, 0.25)
    elif case == "all positive":
        truth[:] = True
    elif case == "separated":
        scores = np.where(truth, 0.75, 0.5)
    return truth, np.rint(scores * 1023) / 1023


@pytest.mark.parametrize("case", CASES)
def test_scikit_learn_agrees(case: str):
    truth, scores = maps(case)
    table = levels.histogram(truth, scores)
    flat, values = truth.ravel(), scores.ravel()
    wanted = average_precision_score(flat, values)
    assert metrics.average_precision(truth, scores) == pytest.approx(wanted, abs=1e-9)
    assert float(levels.brier_of(table)) == pytest.approx(
        brier_score_loss(flat, values, labels=[False, True]), abs=1e-9
    )
    if case == "all positive":
        assert math.isnan(metrics.auroc(truth, scores))
    else:
        assert metrics.auroc(truth, scores) == pytest.approx(roc_auc_score(flat, values), abs=1e-9)


@pytest.mark.parametrize("case", CASES)
def test_torchmetrics_agrees(case: str):
    """It divides counts in float32, so that its AUROC and AP differ in the eighth place."""
    functional = pytest.importorskip("torchmetrics.functional.classification")
    torch = pytest.importorskip("torch")
    truth, scores = maps(case)
    flat, values = torch.from_numpy(truth.ravel()).long(), torch.from_numpy(scores.ravel())
    table = levels.histogram(truth, scores)
    wanted = float(functional.binary_calibration_error(values, flat, n_bins=15))
    assert float(levels.calibration_error_of(table)) == pytest.approx(wanted, abs=1e-9)
    wanted = float(functional.binary_average_precision(values, flat))
    assert metrics.average_precision(truth, scores) == pytest.approx(wanted, abs=2e-7)
    if case != "all positive":
        wanted = float(functional.binary_auroc(values, flat))
        assert metrics.auroc(truth, scores) == pytest.approx(wanted, abs=2e-7)


def test_a_4x4_map_by_hand():
    truth = np.zeros((4, 4), np.bool_)
    scores = np.zeros((4, 4))
    truth[0, :3] = True
    scores[0, :3] = (1, 0.6, 0)
    scores[1, :2] = (0.6, 0.2)
    # At 1: 1 of 1. At 0.6: 2 of 3. At 0.2: 2 of 4. At 0: 3 of 16.
    assert metrics.average_precision(truth, scores) == pytest.approx((1 + 2 / 3 + 3 / 16) / 3)
    # 1 beats all 13; 0.6 beats 12 and ties with one; 0 ties with 11.
    assert metrics.auroc(truth, scores) == pytest.approx((13 + 12.5 + 5.5) / 39)
    table = levels.histogram(truth, scores)
    low, high = (round(value * 1023) / 1023 for value in (0.2, 0.6))
    assert float(levels.brier_of(table)) == pytest.approx(((1 - high) ** 2 + 1 + high**2 + low**2) / 16)
    # Bins of 1/4: {0 x 12, 0.2} with one positive, {0.6 x 2} with one, {1} with one.
    gaps = abs(low - 1) + abs(2 * high - 1) + 0
    assert float(levels.calibration_error_of(table, 4)) == pytest.approx(gaps / 16)


def test_the_edges_of_calibration_bins():
    """A score on an edge is in the bin above it: 1/3 is level 341 of 1023."""
    truth = np.array([True, False, True, False])
    scores = np.array([341 / 1023, 340 / 1023, 682 / 1023, 1.0])
    wanted = (abs(340 / 1023) + abs(341 / 1023 - 1) + abs(682 / 1023 + 1 - 1)) / 4
    assert float(levels.calibration_error_of(levels.histogram(truth, scores), 3)) == pytest.approx(wanted)


def test_classes_that_are_missing():
    empty = np.zeros((4, 4), np.bool_)
    scores = np.full((4, 4), 0.5)
    assert math.isnan(metrics.average_precision(empty, scores)) and math.isnan(metrics.auroc(empty, scores))
    nothing = levels.histogram(np.zeros(0, np.bool_), np.zeros(0))
    for measure in (
        levels.auroc_of,
        levels.average_precision_of,
        levels.brier_of,
        levels.calibration_error_of,
    ):
        assert math.isnan(measure(nothing))


def test_seven_parts_equal_the_whole():
    truth, scores = maps("ordinary")
    whole = ScoreSums()
    parts = [ScoreSums() for _ in range(7)]
    for number in range(7):
        whole.add(number, truth[number], scores[number], where="")
        parts[number].add(number, truth[number], scores[number], where="")
    merged = parts[5]
    for part in (*parts[:5], parts[6]):
        merged.merge(part)
    assert merged.images == 7 and np.array_equal(merged.table, levels.histogram(truth, scores))
    for name in ("average_precision", "auroc", "brier", "calibration_error"):
        assert getattr(merged, name)() == getattr(whole, name)()
    found = whole.average_precision()
    assert found.value == pytest.approx(average_precision_score(truth.ravel(), scores.ravel()), abs=1e-9)
    assert found.low < found.value < found.high


def test_scores_of_images_and_of_objects():
    """Whatever is scored: an image by one number, its objects by several, or none."""
    sums = ScoreSums()
    sums.add(0, np.array(True), np.array(0.5), where="a")
    sums.add(1, np.array([False, False, True]), np.array([0.5, 0.25, 1.0]), where="b")
    sums.add(2, np.zeros(0, np.bool_), np.zeros(0), where="c")
    assert sums.auroc().value == pytest.approx((1.5 + 2) / 4)
    assert sums.images == 3


def test_scores_that_are_none():
    with pytest.raises(EvaluationError, match="a: scores must be numbers from 0 to 1"):
        ScoreSums().add(0, np.array([True]), np.array([math.nan]), where="a")
    with pytest.raises(EvaluationError, match=r"a: scores \(2,\) and mask \(1,\)"):
        ScoreSums().add(0, np.array([True]), np.array([0.5, 0.5]), where="a")
