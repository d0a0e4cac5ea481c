"""Saliency measures: a 4x4 map by hand, formulas by loops, scipy and scikit-learn, constant and empty maps."""

from __future__ import annotations

import math
from dataclasses import asdict

import numpy as np
import pytest
from scipy.stats import pearsonr
from sklearn.metrics import roc_auc_score

from actors.errors import EvaluationError
from eval.metrics.saliency import SaliencyMeans, saliency

TRUTH = np.zeros((4, 4))
TRUTH[0, :2] = (1, 0.5)
PREDICTED = np.zeros((4, 4))
PREDICTED[0, 1:3] = 0.5


def test_a_4x4_map_by_hand():
    found = saliency(TRUTH, PREDICTED)
    assert found.sim == pytest.approx(1 / 3)  # shares 2/3, 1/3 of the truth, and 1/2, 1/2 of the prediction
    wanted = 2 / 3 * math.log(2 / 3 / 1e-8 + 1e-8) + 1 / 3 * math.log(1 / 3 / (0.5 + 1e-8) + 1e-8)
    wanted += 14 * 0 + 0
    assert found.kld == pytest.approx(wanted)
    # Prediction: mean 1/16, variance 1/32 - 1/256 = 7/256. At the marked pixels it is 0 and 0.5.
    assert found.nss == pytest.approx((0.25 - 1 / 16) / math.sqrt(7 / 256))
    # 0 ties with 13 of 14 others and loses to one; 0.5 beats 13 and ties with one.
    assert found.auc_judd == pytest.approx((6.5 + 13.5) / 28)
    assert found.mse == pytest.approx((1 + 0 + 0.25) / 16)
    covariance = 0.25 / 16 - 1.5 / 16 / 16
    assert found.cc == pytest.approx(covariance / math.sqrt((1.25 / 16 - (1.5 / 16) ** 2) * 7 / 256))
    assert math.isnan(found.mse_empty)


def test_independent_computations_on_quantised_maps():
    rng = np.random.default_rng(4)
    truth = np.where(rng.random((24, 24)) < 0.2, rng.integers(0, 4, (24, 24)) / 3, 0)
    predicted = rng.integers(0, 9, (24, 24)) / 8
    found = saliency(truth, predicted)
    assert found.cc == pytest.approx(pearsonr(truth.ravel(), predicted.ravel()).statistic, abs=1e-9)
    assert found.auc_judd == pytest.approx(roc_auc_score(truth.ravel() > 0, predicted.ravel()), abs=1e-9)
    p, g = predicted / predicted.sum(), truth / truth.sum()
    divergence = sum(b * math.log(b / (a + 1e-8) + 1e-8) for a, b in zip(p.ravel(), g.ravel(), strict=True))
    assert found.kld == pytest.approx(divergence, abs=1e-9)
    assert found.sim == pytest.approx(
        sum(min(a, b) for a, b in zip(p.ravel(), g.ravel(), strict=True)), abs=1e-9
    )
    mean, deviation = predicted.mean(), predicted.std()
    assert found.nss == pytest.approx(((predicted - mean) / deviation)[truth > 0].mean(), abs=1e-9)


@pytest.mark.parametrize("value", [0, 0.1, 1])
def test_a_constant_prediction_is_no_relation(value: float):
    found = saliency(TRUTH, np.full((4, 4), value))
    assert (found.cc, found.nss, found.auc_judd) == (0, 0, 0.5)
    assert found.sim == pytest.approx(0 if value == 0 else 2 / 16)


def test_a_constant_of_many_pixels_is_exact():
    """The mean of many equal floats may differ from them; that is no relation either."""
    truth = np.zeros((101, 103))
    truth[3, 3] = 1
    assert saliency(truth, np.full((101, 103), 0.1)).nss == 0


def test_an_empty_truth_counts_in_the_error_only():
    found = saliency(np.zeros((4, 4)), PREDICTED)
    assert found.mse == found.mse_empty == 0.5 / 16
    rest = asdict(found)
    del rest["mse"], rest["mse_empty"]
    assert all(math.isnan(value) for value in rest.values())
    everywhere = saliency(np.full((4, 4), 0.5), PREDICTED)
    assert (
        math.isnan(everywhere.cc) and math.isnan(everywhere.auc_judd) and everywhere.nss == pytest.approx(0)
    )


def test_ignored_pixels_and_wrong_maps():
    counted = np.zeros((4, 4), np.bool_)
    counted[:2] = True
    found, wanted = saliency(TRUTH, PREDICTED, counted), saliency(TRUTH[:2], PREDICTED[:2])
    assert asdict(found) == pytest.approx(asdict(wanted), nan_ok=True)
    with pytest.raises(EvaluationError, match="without any pixel"):
        saliency(TRUTH, PREDICTED, np.zeros((4, 4), np.bool_))
    with pytest.raises(EvaluationError, match="prediction must be numbers from 0 to 1"):
        saliency(TRUTH, PREDICTED * math.nan)
    with pytest.raises(EvaluationError, match="one shape"):
        saliency(TRUTH, PREDICTED[:2])


def test_means_over_where_a_measure_is_defined():
    rng = np.random.default_rng(0)
    rows = [
        saliency((rng.random((6, 6)) < 0.2) * float(number % 3 > 0), rng.random((6, 6)))
        for number in range(21)
    ]
    whole, parts = SaliencyMeans(), [SaliencyMeans() for _ in range(7)]
    for number, row in enumerate(rows):
        whole.add(number, row)
        parts[number % 7].add(number, row)
    for part in parts[1:]:
        parts[0].merge(part)
    for name, figure in whole.figures().items():
        values = [getattr(row, name) for row in rows if not math.isnan(getattr(row, name))]
        assert whole.images()[name] == len(values) == {"mse": 21, "mse_empty": 7}.get(name, 14)
        assert figure.value == pytest.approx(np.mean(values), abs=1e-9)
        assert figure.low < figure.value < figure.high
        assert asdict(parts[0].figures()[name]) == pytest.approx(asdict(figure), abs=1e-12)
