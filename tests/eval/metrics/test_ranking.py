"""Measures of images and objects: by hand, and against scikit-learn, scipy and torchmetrics with many ties."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import average_precision_score, roc_auc_score

from actors.errors import EvaluationError
from eval.metrics import ranking
from eval.metrics.bootstrap import resample_weights

RNG = np.random.default_rng(1)
TRUTH = RNG.random(80) < 0.3
SCORES = np.round(RNG.random(80) + 0.3 * TRUTH, 1)


def test_by_hand():
    truth, scores = np.array([True, False, True, False]), np.array([7, 7, 9, 1])
    assert ranking.auroc(truth, scores).value == (0.5 + 1 + 1 + 1) / 4
    assert ranking.average_precision(truth, scores).value == pytest.approx((1 + 2 / 3) / 2)
    # Ranks 1, 2.5, 2.5, 4 and 4, 2, 2, 2: deviations -1.5, 0, 0, 1.5 and 1.5, -0.5, -0.5, -0.5.
    found = ranking.rank_correlation(np.array([1, 5, 5, 9]), np.array([3, 0, 0, 0]))
    assert found.value == pytest.approx((-1.5 * 1.5 - 1.5 * 0.5) / math.sqrt(4.5 * 3))


def test_scikit_learn_and_scipy_agree():
    assert ranking.auroc(TRUTH, SCORES).value == pytest.approx(roc_auc_score(TRUTH, SCORES), abs=1e-9)
    wanted = average_precision_score(TRUTH, SCORES)
    assert ranking.average_precision(TRUTH, SCORES).value == pytest.approx(wanted, abs=1e-9)
    other = np.round(RNG.random(80) * 3)
    wanted = spearmanr(SCORES, other).statistic
    assert ranking.rank_correlation(SCORES, other).value == pytest.approx(wanted, abs=1e-9)


def test_torchmetrics_agrees():
    functional = pytest.importorskip("torchmetrics.functional")
    torch = pytest.importorskip("torch")
    other = np.round(np.random.default_rng(5).random(80) * 3)
    wanted = float(functional.spearman_corrcoef(torch.from_numpy(SCORES), torch.from_numpy(other)))
    assert ranking.rank_correlation(SCORES, other).value == pytest.approx(wanted, abs=1e-7)


def test_intervals_are_those_of_images_drawn_again():
    """Each resample, written out with images repeated, gives scikit-learn's and scipy's figures."""
    other = np.round(np.random.default_rng(5).random(80) * 3)
    aucs, precisions, ranks = [], [], []
    for weight in np.concatenate(list(resample_weights(80, 0, 50))).astype(np.int64):
        drawn = np.repeat(np.arange(80), weight)
        aucs.append(roc_auc_score(TRUTH[drawn], SCORES[drawn]))
        precisions.append(average_precision_score(TRUTH[drawn], SCORES[drawn]))
        ranks.append(spearmanr(SCORES[drawn], other[drawn]).statistic)
    for found, values in (
        (ranking.auroc(TRUTH, SCORES, resamples=50), aucs),
        (ranking.average_precision(TRUTH, SCORES, resamples=50), precisions),
        (ranking.rank_correlation(SCORES, other, resamples=50), ranks),
    ):
        low, high = np.quantile(values, [0.025, 0.975])
        assert (found.low, found.high) == (pytest.approx(low, abs=1e-9), pytest.approx(high, abs=1e-9))


def test_objects_of_an_image_stay_together():
    """Two images, each with one object of either kind: no resample splits them."""
    truth, scores = np.array([True, False, True, False]), np.array([0.9, 0.1, 0.2, 0.8])
    together = ranking.auroc(truth, scores, np.array([0, 0, 1, 1]))
    assert (together.value, together.low, together.high) == (0.75, 0, 1)
    with pytest.raises(EvaluationError, match="number of its image"):
        ranking.auroc(truth, scores, np.array([0, 0, 1]))


def test_what_is_undefined():
    assert math.isnan(ranking.auroc(np.ones(3, np.bool_), np.arange(3)).value)
    assert math.isnan(ranking.average_precision(np.zeros(3, np.bool_), np.arange(3)).value)
    assert math.isnan(ranking.rank_correlation(np.ones(3), np.arange(3)).value)
    assert ranking.auroc(np.array([True, False]), np.ones(2)).value == 0.5
    with pytest.raises(EvaluationError, match="finite"):
        ranking.auroc(np.array([True, False]), np.array([1.0, math.nan]))
    with pytest.raises(EvaluationError, match="N >= 1"):
        ranking.auroc(np.zeros(0, np.bool_), np.zeros(0))
