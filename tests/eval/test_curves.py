"""Curves from the histogram of levels, against scikit-learn and by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.metrics import precision_recall_curve

from eval.curves import SCORE_BINS, curves_of
from eval.metrics.levels import LEVELS, calibration_error_of, histogram

RNG = np.random.default_rng(0)
TRUTH = RNG.random(5000) < 0.2
SCORES = np.rint(np.clip(0.3 * TRUTH + 0.7 * RNG.random(5000), 0, 1) * (LEVELS - 1)) / (LEVELS - 1)


def test_precision_recall_and_iou():
    found = curves_of(histogram(TRUTH, SCORES))
    precision, recall, thresholds = precision_recall_curve(TRUTH, SCORES)
    for place in range(0, len(thresholds), 97):
        at = int(np.argmin(np.abs(found.thresholds - thresholds[place])))
        assert found.precision[at] == pytest.approx(precision[place], abs=1e-12)
        assert found.recall[at] == pytest.approx(recall[place], abs=1e-12)
        predicted = thresholds[place] <= SCORES
        iou = (predicted & TRUTH).sum() / (predicted | TRUTH).sum()
        assert found.iou[at] == pytest.approx(iou, abs=1e-12)


def test_reliability_has_the_calibration_error():
    table = histogram(TRUTH, SCORES)
    found = curves_of(table)
    filled = found.bin_share > 0
    gaps = np.abs(found.bin_score - found.bin_artifact)[filled] * found.bin_share[filled]
    assert gaps.sum() == pytest.approx(float(calibration_error_of(table)), abs=1e-12)
    assert found.bin_share.sum() == pytest.approx(1)


def test_distributions():
    found = curves_of(histogram(TRUTH, SCORES))
    assert len(found.clean) == SCORE_BINS
    edges = np.arange(SCORE_BINS + 1) * (LEVELS / SCORE_BINS) / (LEVELS - 1) - 0.5 / (LEVELS - 1)
    for shares, chosen in ((found.clean, ~TRUTH), (found.artifact, TRUTH)):
        wanted, _ = np.histogram(SCORES[chosen], edges)
        assert shares == pytest.approx(wanted / chosen.sum())


def test_without_any_artifact_the_document_has_nulls():
    document = curves_of(histogram(np.zeros(4, np.bool_), np.array([0, 0, 0, 0.5]))).document()
    assert set(document["recall"]) == {None} and set(document["artifact"]) == {None}
    json.dumps(document, allow_nan=False)
