"""Blind predictions: counted by hand, and average precision as scikit-learn has it."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from eval.blind import ALL_OBJECTS, EVERYTHING, BlindBaselines

RNG = np.random.default_rng(0)
TRUTH = RNG.random((5, 6, 7)) < 0.3
TRUTH[4] = False
OBJECTS = (RNG.random((5, 6, 7)) < 0.5).astype(np.uint8) * 3
COUNTED = RNG.random((5, 6, 7)) < 0.8


def filled(numbers: range, *, objects: bool = True) -> BlindBaselines:
    found = BlindBaselines()
    for number in numbers:
        counted = COUNTED[number]
        found.add(number, TRUTH[number] & counted, counted, OBJECTS[number] if objects else None)
    return found


def test_against_scikit_learn_and_by_hand():
    figures = filled(range(5)).figures()
    assert list(figures) == [EVERYTHING, ALL_OBJECTS]
    truth = TRUTH & COUNTED
    for name, predicted in ((EVERYTHING, COUNTED), (ALL_OBJECTS, COUNTED & (OBJECTS > 0))):
        found = figures[name]
        assert found.iou_fg.value == pytest.approx((truth & predicted).sum() / (truth | predicted).sum())
        wanted = average_precision_score(truth[COUNTED], predicted[COUNTED].astype(float))
        assert found.average_precision.value == pytest.approx(wanted, abs=1e-12)
        assert found.clean_area.value == pytest.approx(predicted[4].sum() / COUNTED[4].sum())
        assert found.iou_fg.low <= found.iou_fg.value <= found.iou_fg.high


def test_objects_are_needed_everywhere():
    found = filled(range(2))
    found.merge(filled(range(2, 4), objects=False))
    assert list(found.figures()) == [EVERYTHING]


def test_parts_add_up():
    found = filled(range(3, 5))
    found.merge(filled(range(3)))
    assert found.figures() == filled(range(5)).figures()


def test_no_clean_image():
    assert filled(range(4)).figures()[EVERYTHING].clean_area is None
