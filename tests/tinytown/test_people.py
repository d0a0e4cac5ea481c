"""Simulated people: their discs cover what is wrong, and their map has RichHF's levels."""

from __future__ import annotations

import numpy as np
import pytest

from tinytown.annotator import Annotation, mark
from tinytown.people import COVERED, LARGEST_RADIUS, PEOPLE, clicks, richhf_map

SIDE = 64
Y, X = np.mgrid[:SIDE, :SIDE]


def annotation(wrong: np.ndarray) -> Annotation:
    wrong = wrong.astype(np.float32)
    return Annotation(
        np.zeros((SIDE, SIDE, 3), np.uint8), wrong, mark(wrong), (), np.zeros((SIDE, SIDE), np.uint8)
    )


def blob(x: int, y: int, radius: int, wrongness: float) -> np.ndarray:
    return np.where((X - x) ** 2 + (Y - y) ** 2 <= radius**2, wrongness, 0.0)


@pytest.mark.parametrize("x, y, radius", [(30, 20, 9), (0, 63, 12), (40, 40, 4)])
def test_what_all_see_is_covered_by_discs_near_it(x: int, y: int, radius: int):
    flaw = blob(x, y, radius, 4.0) > 0
    for seed in range(5):
        marks = clicks(annotation(blob(x, y, radius, 4.0)), seed)
        assert marks.shape == (len(PEOPLE), SIDE, SIDE) and marks.dtype == bool
        for person, marked in enumerate(marks):
            assert (marked & flaw).sum() >= COVERED[person] * flaw.sum()
            # A disc's centre misses a pixel of the flaw by the square root of 2 at most.
            far = (X - x) ** 2 + (Y - y) ** 2 > (radius + LARGEST_RADIUS[person] + 1.5) ** 2
            assert not (marked & far).any()


def test_nothing_wrong_is_nothing_marked():
    assert not clicks(annotation(np.zeros((SIDE, SIDE))), 1).any()


def test_equal_seeds_give_equal_clicks_and_others_differ():
    found = annotation(blob(20, 20, 7, 3.0) + blob(45, 40, 5, 2.2))
    assert np.array_equal(clicks(found, 7), clicks(found, 7))
    assert not np.array_equal(clicks(found, 7), clicks(found, 8))
    one, two = clicks(annotation(blob(20, 20, 7, 3.0)), 7)[:2]
    assert not np.array_equal(one, two)


def test_a_more_tolerant_person_marks_less():
    """Wrong by 1.3, 1.8 and 3 tolerances: the strictest sees all three, the next two, the last one."""
    wrong = blob(12, 12, 6, 1.3) + blob(50, 12, 6, 1.8) + blob(32, 48, 6, 3.0)
    marks = clicks(annotation(wrong), 3)
    seen = [[bool(marked[y, x]) for x, y in ((12, 12), (50, 12), (32, 48))] for marked in marks]
    assert seen == [[True, True, True], [False, True, True], [False, False, True]]
    assert marks[0].sum() > marks[1].sum() > marks[2].sum()


def test_small_flaws_are_overlooked_more_often():
    def overlooked(flaw: np.ndarray) -> int:
        return sum(int((~clicks(annotation(flaw), seed).any(axis=(1, 2))).sum()) for seed in range(40))

    tiny, small, large = (overlooked(blob(30, 30, radius, 9.0)) for radius in (0, 1, 4))
    assert tiny > small > large == 0


def test_levels_are_those_of_an_average_of_three():
    marks = np.zeros((3, 2, 2), bool)
    marks[0, 0, 1] = marks[1, 1, 0] = marks[2, 1, 0] = True
    marks[:, 1, 1] = True
    assert richhf_map(marks).tolist() == [[0, 85], [170, 255]]
    assert richhf_map(marks).dtype == np.uint8
    assert richhf_map(np.array([[[True]], [[False]]])).tolist() == [[128]]
