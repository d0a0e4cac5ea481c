"""Broken against intact objects: a 4x4 map by hand, and scikit-learn."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from actors.errors import EvaluationError
from eval.metrics import object_auroc, objects_of
from eval.metrics.objects import joined

LABELS = np.array([[1, 1, 0, 0], [1, 1, 0, 7], [0, 0, 0, 7], [3, 3, 3, 3]])
TRUTH = np.array([[1, 1, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0], [1, 0, 0, 0]], np.bool_)
SCORES = np.array([[0.5, 0.9, 1, 0], [0.5, 0.1, 0, 0.2], [0, 0, 0, 0.4], [0.5, 0.4, 0.3, 0]])


def test_the_objects_of_a_4x4_map():
    found = objects_of(5, LABELS, TRUTH, SCORES, 0.5)
    assert found.images.tolist() == [5, 5, 5]
    assert found.pixels.tolist() == [4, 4, 2]  # labels 1, 3, 7
    assert found.artifact.tolist() == [2, 1, 0]
    assert found.marked.tolist() == [3, 1, 0]
    assert found.score == pytest.approx([0.5, 0.3, 0.3])
    assert found.broken().tolist() == [True, False, False]
    assert found.broken(0.2).tolist() == [True, True, False]
    assert found.broken(0.25).tolist() == [True, False, False]  # exactly a quarter is not more than it


def test_ignored_pixels():
    counted = np.ones((4, 4), np.bool_)
    counted[:, 3] = False
    found = objects_of(0, LABELS, TRUTH, SCORES, 0.5, counted=counted)
    assert found.pixels.tolist() == [4, 3] and found.marked.tolist() == [3, 1]


def test_auroc_over_images():
    """Against scikit-learn, with the ties that unmarked objects are; the order of the parts does not matter."""
    rng = np.random.default_rng(2)
    parts = []
    for number in range(30):
        labels = np.repeat(np.arange(1, 5), 16).reshape(8, 8)
        truth = (rng.random((8, 8)) < 0.4) & (labels % 2 == 0)
        scores = np.round(np.clip(rng.random((8, 8)) * 0.6 + 0.2 * truth, 0, 1), 2)
        parts.append(objects_of(number, labels, truth, scores, 0.55))
    found = joined(parts)
    broken = found.broken()
    assert 0 < broken.sum() < len(found) == 120
    for by_area, values in ((True, found.marked_share), (False, found.score)):
        area = object_auroc(found.of(broken), found.of(~broken), by_area=by_area)
        assert area.value == pytest.approx(roc_auc_score(broken, values), abs=1e-9)
        assert area.low < area.value < area.high
        again = joined(parts[::-1])
        assert object_auroc(again.of(again.broken()), again.of(~again.broken()), by_area=by_area) == area


def test_what_is_undefined():
    found = objects_of(0, LABELS, TRUTH, SCORES, 0.5)
    assert math.isnan(object_auroc(found, found.of(np.zeros(3, np.bool_))).value)
    nothing = objects_of(0, np.zeros((4, 4), np.int64), TRUTH, SCORES, 0.5)
    with pytest.raises(EvaluationError, match="no objects"):
        object_auroc(nothing, nothing)
    with pytest.raises(EvaluationError, match=r"a: labels of objects \(2, 2\)"):
        objects_of(0, LABELS[:2, :2], TRUTH, SCORES, 0.5, where="a")
