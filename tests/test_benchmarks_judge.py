"""The benchmark of the judge: its counts on hand-made maps."""

from __future__ import annotations

import numpy as np
import pytest

from actors.batch import Sample
from actors.images import encode_mask
from benchmarks.judge import Region, counted, least_marks, regions_of, summary


def boxes(*places: tuple[slice, slice]) -> np.ndarray:
    mask = np.zeros((64, 64), bool)
    for place in places:
        mask[place] = True
    return mask


LEFT, RIGHT = (slice(10, 20), slice(10, 20)), (slice(10, 20), slice(40, 50))
MASK = boxes(LEFT, RIGHT)


def sample(key: str = "a", *, judged: np.ndarray | None = None, rejected: bool = False) -> Sample:
    one = Sample(key, "", mask=encode_mask(MASK), unet_rows=30, inversion_steps=10)
    one.judged = None if judged is None else encode_mask(judged)
    one.reason = "legal" if rejected else ""
    return one


def test_marks_count_up_to_two_pixels_from_their_region():
    assert counted(MASK, boxes((slice(8, 9), slice(8, 22)))) == [14, 0]  # a row two above, over the corners
    assert counted(MASK, boxes((slice(7, 8), slice(8, 22)))) == [0, 0]
    assert counted(MASK, boxes((slice(15, 16), slice(0, 64)))) == [14, 14]


@pytest.mark.parametrize(
    ("counts", "least"), [([0] * 95 + [7] * 5, 1), ([0] * 94 + [7] * 6, 8), ([0] * 18 + [3, 50], 4), ([5], 6)]
)
def test_n_is_the_smallest_number_that_enough_regions_stay_below(counts: list[int], least: int):
    assert least_marks(counts) == least
    assert np.mean(np.array(counts) < least) >= 0.95 > np.mean(np.array(counts) < least - 1)


def test_without_a_judge_all_regions_count_and_with_one_the_broken_ones():
    nothing, after = boxes(), boxes((slice(12, 15), slice(12, 16)))
    plain = regions_of(sample(), nothing, after, 8)
    assert plain == [Region("a", 0, 12, True), Region("a", 0, 0, True)]
    judged = regions_of(sample(judged=boxes((slice(21, 22), slice(42, 44)))), nothing, after, 8)
    assert [one.broken for one in judged] == [False, True]


def test_a_region_is_right_by_what_is_marked_after_and_not_before():
    assert Region("a", 11, 12, True).right(12)
    assert not Region("a", 11, 11, True).right(12) and not Region("a", 12, 40, True).right(12)


def test_the_figures_add_up():
    samples = [sample("a"), sample("b"), sample("c", rejected=True)]
    regions = [
        Region("a", 0, 20, True), Region("a", 0, 3, True), Region("b", 15, 20, True), Region("b", 0, 90, False)
    ]  # fmt: skip
    found = summary("x", samples, regions, 12)
    assert (found["samples"], found["accepted"], found["regions"], found["images"]) == (3, 2, 3, 2)
    assert (found["regions_right"], found["images_right"]) == (1, 1)
    assert (found["legal"], found["broken_before"]) == (1, 1)
    assert found["unet_rows_per_accepted"] == 45 and found["reasons"] == {"legal": 1}
    assert found["inversion_steps"] == {10: 2}
