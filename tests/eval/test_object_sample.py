"""Objects of a set: the figures of `eval.metrics.objects`, from parts, from a bounded sample, and by hand."""

from __future__ import annotations

import numpy as np
import pytest

from eval.metrics import object_auroc, objects_of
from eval.metrics.objects import joined
from eval.metrics.sweep import reached
from eval.object_sample import ObjectSample

THRESHOLDS = (0.25, 0.5, 0.75)
RNG = np.random.default_rng(0)
SCORES = RNG.random((24, 12, 12)).astype(np.float32)
LABELS = RNG.integers(0, 4, (24, 12, 12)).astype(np.uint8)
BROKEN = RNG.random((24, 4)) < 0.5
BROKEN[::4], BROKEN[:, 0] = False, False
TRUTH = np.stack([BROKEN[number][LABELS[number]] for number in range(24)])
COUNTED = RNG.random(TRUTH.shape) < 0.9


def add(sample: ObjectSample, number: int) -> None:
    counted = COUNTED[number]
    levels = reached(SCORES[number], THRESHOLDS)
    sample.add(number, LABELS[number], TRUTH[number] & counted, counted, levels, SCORES[number])


@pytest.mark.parametrize("place", range(3))
def test_the_figures_of_the_metrics(place: int):
    """Every fourth image is clean; of the others each object is broken or not as a whole."""
    sample = ObjectSample(3)
    for number in range(24):
        add(sample, number)
    found = sample.figures(place)
    every = joined(
        [
            objects_of(
                number,
                LABELS[number],
                TRUTH[number],
                SCORES[number],
                THRESHOLDS[place],
                counted=COUNTED[number],
            )
            for number in range(24)
        ]
    )
    clean, broken = ~BROKEN.any(axis=1)[every.images], every.broken()
    assert (found.images, found.broken) == (24, broken.sum())
    assert (found.intact, found.clean) == ((~broken & ~clean).sum(), clean.sum())
    for area, within, against in (
        (True, found.within, found.against_clean),
        (False, found.within_by_score, found.against_clean_by_score),
    ):
        assert within == object_auroc(every.of(broken), every.of(~broken & ~clean), by_area=area)
        assert against == object_auroc(every.of(broken), every.of(clean), by_area=area)


def test_parts_in_any_order():
    whole, parts = ObjectSample(3), [ObjectSample(3) for _ in range(7)]
    for number in range(24):
        add(whole, number)
        add(parts[number % 7], number)
    total = parts[3]
    for part in (parts[number] for number in (5, 0, 6, 1, 2, 4)):
        total.merge(part)
    assert total.figures(1) == whole.figures(1)


def test_a_bounded_sample_does_not_depend_on_the_parts():
    whole, parts = ObjectSample(3, most=30), [ObjectSample(3, most=30) for _ in range(3)]
    for number in range(24):
        add(whole, number)
        add(parts[number % 3], number)
    parts[2].merge(parts[0])
    parts[2].merge(parts[1])
    assert whole.images == parts[2].images == 24
    assert whole.kept_images == parts[2].kept_images == 10  # three objects each
    assert parts[2].figures(0) == whole.figures(0)


def test_wrong_marks_by_hand():
    """A row each of background, a broken object (half of it an artifact) and an intact one; all of it is marked."""
    labels = np.array([[0, 0, 0, 0], [1, 1, 1, 1], [2, 2, 2, 2]], np.uint8)
    truth = np.zeros((3, 4), np.bool_)
    truth[1, :2] = True
    counted = np.ones((3, 4), np.bool_)
    counted[0, 0] = False
    sample = ObjectSample(1)
    scores = np.ones((3, 4), np.float32)
    sample.add(0, labels, truth, counted, reached(scores, (0.5,)), scores)
    sample.add(1, labels, np.zeros_like(truth), counted, reached(scores, (0.5,)), scores)
    wrong = sample.figures(0).wrong
    assert (wrong.clean_images, wrong.intact, wrong.damaged, wrong.background) == (11, 4, 2, 3)


def test_a_little_damaged_object_is_neither_broken_nor_intact():
    """Of three objects of 20 pixels, 0, 2 and 7 are an artifact; all of them is marked, and nothing else."""
    labels = np.repeat(np.arange(4, dtype=np.uint8), 20).reshape(4, 20)
    truth = np.zeros((4, 20), np.bool_)
    truth[2, :2] = truth[3, :7] = True
    scores = (labels > 0).astype(np.float32)
    sample = ObjectSample(1)
    sample.add(0, labels, truth, np.ones_like(truth), reached(scores, (0.5,)), scores)
    found = sample.figures(0)
    assert (found.broken, found.intact, found.clean) == (1, 1, 0)
    assert (found.wrong.intact, found.wrong.damaged, found.wrong.background) == (20, 18 + 13, 0)


def test_without_objects_or_without_broken_ones():
    sample = ObjectSample(1)
    assert sample.figures(0) is None
    scores, nothing = np.ones((2, 2), np.float32), np.zeros((2, 2), np.bool_)
    sample.add(0, np.zeros((2, 2), np.uint8), nothing, ~nothing, reached(scores, (0.5,)), scores)
    assert sample.figures(0) is None
    sample.add(1, np.ones((2, 2), np.uint8), nothing, ~nothing, reached(scores, (0.5,)), scores)
    found = sample.figures(0)
    assert (found.broken, found.clean) == (0, 1) and np.isnan(found.within.value)
