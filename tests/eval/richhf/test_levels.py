"""RichHF maps: plateaus by number of people, drawn discs through JPEG, and the rule pixel by pixel."""

from __future__ import annotations

import io
from typing import Literal

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from actors.errors import EvaluationError
from benchmarks.richhf.annotators import measure, table
from eval.richhf.levels import binarise, infer_people, plateaus

SIDE = 96


def squares(*levels: int) -> NDArray[np.uint8]:
    """A black map with a square of 16 by 16 for every level."""
    map_ = np.zeros((SIDE, SIDE), np.uint8)
    for number, level in enumerate(levels):
        y, x = divmod(number, 4)
        map_[20 * y + 4 : 20 * y + 20, 20 * x + 4 : 20 * x + 20] = level
    return map_


def through_jpeg(map_: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    buffer = io.BytesIO()
    Image.fromarray(map_).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer))


def discs(people: int, seed: int) -> NDArray[np.bool_]:
    """bool [people, 160, 160]: everybody clicks near one place, and some near another."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:160, :160]
    marks = np.zeros((people, 160, 160), np.bool_)
    for person in range(people):
        for place in [50, 110][: 1 + person % 2]:
            down, across = place + rng.integers(-8, 9, 2)
            marks[person] |= (y - down) ** 2 + (x - across) ** 2 <= 20**2
    return marks


@pytest.mark.parametrize(
    ("levels", "people"),
    [
        ((), (1, 2, 3, 4, 5, 6)),
        ((255,), (1, 2, 3, 4, 5, 6)),
        ((85, 170), (3, 6)),
        ((85, 170, 255), (3, 6)),
        ((42,), (6,)),
        ((43, 128, 213), (6,)),
        ((51, 204), (5,)),
        ((128,), (2, 4, 6)),
        ((127,), (2, 4, 6)),
        ((64, 191), (4,)),
        ((64, 102), ()),
        ((100,), (5,)),
        ((30,), ()),
        ((3, 7, 10), (1, 2, 3, 4, 5, 6)),
    ],
)
def test_how_many_people_made_a_map(levels: tuple[int, ...], people: tuple[int, ...]):
    assert infer_people(squares(*levels)) == people


def test_levels_that_are_rare_say_nothing():
    map_ = squares(85, 170, 255)
    map_[90, :10] = 51  # 10 of 778 marked pixels
    assert infer_people(map_) == (3, 6)


@pytest.mark.parametrize("quality", [95, 75])
@pytest.mark.parametrize("people", [1, 2, 3, 4, 5, 6])
def test_discs_through_jpeg(people: int, quality: int):
    marks = discs(people, seed=people)
    map_ = np.rint(marks.sum(axis=0) * 255 / people).astype(np.uint8)
    noisy = through_jpeg(map_, quality)
    assert people in infer_people(map_)
    assert people in infer_people(noisy), plateaus(noisy)
    wanted = marks.sum(axis=0) * 3 >= 2 * people
    assert np.array_equal(binarise(map_, people), wanted)
    found = binarise(noisy, people)
    assert (found & wanted).sum() / (found | wanted).sum() > 0.97


def test_three_people_are_half_of_the_levels():
    every = np.arange(256, dtype=np.uint8)[None]
    assert np.array_equal(binarise(every, 3), every >= 128)


@pytest.mark.parametrize(
    ("people", "wanted"),
    [(1, 1), (2, 2), (3, 2), (4, 3), (5, 4), (6, 4)],  # two of three, rounded up
)
def test_two_of_three_people(people: int, wanted: int):
    levels = np.array([[int(255 * marks / people) for marks in range(people + 1)]], np.uint8)
    assert binarise(levels, people)[0].tolist() == [marks >= wanted for marks in range(people + 1)]


def test_the_nearest_count_by_plain_rounding():
    for people in range(1, 7):
        for level in range(256):
            marks = 0 if level <= 10 else round(level * people / 255)
            for share, wanted in ((1 / people, 1), (1.0, people)):
                found = binarise(np.array([[level]], np.uint8), people, share)[0, 0]
                assert found == (marks >= wanted), (people, level, share)


@pytest.mark.parametrize(("people", "share"), [(0, 0.5), (7, 0.5), (3, 0.0), (3, 1.1)])
def test_what_cannot_be_binarised(people: int, share: float):
    with pytest.raises(EvaluationError, match="cannot be binarised"):
        binarise(squares(255), people, share)


def test_exact_levels_count_however_rare():
    map_ = squares(85, 170, 255)
    map_[90, 0] = 43
    assert infer_people(map_, lossy=False) == (6,)
    assert infer_people(map_, lossy=True) == (3, 6)
    # A PNG of a map that was a JPEG before.
    assert infer_people(through_jpeg(squares(64, 128, 191), 75), lossy=False) == (4,)


@pytest.mark.parametrize("form", ["PNG", "JPEG"])
def test_simulated_maps(form: Literal["PNG", "JPEG"]):
    """At least 99 % of the maps that fit one number; `python -m benchmarks.richhf.annotators` takes more of them."""
    tally = measure(form, 85, maps=12, side=512)
    assert sum(tally.found.values()) > 20
    assert tally.right >= 0.99, table(tally)
