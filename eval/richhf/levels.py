"""RichHF artifact maps: how many people marked each pixel, and the mask that two of three make of it.

A map is the average of what n people marked, as 8-bit grey: a pixel that k of them marked has the level
255 k / n. The number n is not stored. Maps that went through JPEG ring a little around their discs.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from actors.errors import EvaluationError

NOISE = 10
"""Highest level that JPEG leaves where nobody marked anything."""

TWO_OF_THREE = 2 / 3
MOST_PEOPLE = 6

_LEAST_SHARE = 0.02
"""Of the marked pixels, in a plateau that counts; the slopes that JPEG draws around discs have less."""

_TOLERANCE = 2
"""Levels around the middle of a plateau that count for its area."""

_MOST_MOVED = 255 / 60
"""Levels that JPEG may move a plateau. Different levels k / n, of all n up to 6, lie 255 / 30 apart at least, so that a
plateau that moved by less than half of that is nearest to its own."""

_ROUNDED = 1
"""Levels that rounding up or down moves a plateau."""

_TRIANGLE = np.array([1, 2, 3, 2, 1])
"""Weights of the levels around the middle of a plateau."""

_RINGING = 20
"""Levels around a plateau, nought too, in which a peak is JPEG's ringing; true plateaus are 42 apart at least."""


def binarise(map_: NDArray[np.uint8], people: int, share: float = TWO_OF_THREE) -> NDArray[np.bool_]:
    """Where at least `share` of the people marked a pixel; for three people, where the level is 128 or above.

    Args:
        map_: uint8 [..., H, W].
        people: n, 1 to 6.
        share: above 0, at most 1; `ceil(n * share)` marks are wanted.

    Returns:
        bool, the shape of the map.

    Raises:
        EvaluationError: `people` or `share` out of range.
    """
    if not 1 <= people <= MOST_PEOPLE or not 0 < share <= 1:
        raise EvaluationError(
            f"a map cannot be binarised for {people} people (1 to {MOST_PEOPLE}) at a share of {share:g}"
        )
    return marks_in(map_, people) >= math.ceil(people * share - 1e-9)


def marks_in(map_: NDArray[np.uint8], people: int) -> NDArray[np.uint8]:
    """How many of the people marked each pixel.

    Args:
        map_: uint8 [..., H, W].
        people: n, 1 to 6.

    Returns:
        uint8, 0 to n, the shape of the map.
    """
    # The nearest k of level = 255 k / n, in whole numbers. 255 is odd, so no level lies halfway between two.
    levels = np.arange(256)
    marks = np.where(levels <= NOISE, 0, (2 * people * levels + 255) // 510).astype(np.uint8)
    return marks[map_]


def infer_people(map_: NDArray[np.uint8], *, lossy: bool = True) -> tuple[int, ...]:
    """The numbers of people, ascending from 1 to 6, that explain every plateau of a map.

    Several often do: {0, 255} fits any number, {0, 85, 170} fits 3 and 6, an empty map fits all. None does for a
    map that is no average of flat marks.

    Args:
        map_: uint8 [H, W].
        lossy: whether the map went through JPEG. Otherwise every level counts, however rare, unless there are more
            levels than `MOST_PEOPLE`: then it went through JPEG before it was stored as PNG.
    """
    found, most_moved = plateaus(map_), _MOST_MOVED
    if not lossy:
        levels = np.flatnonzero(np.bincount(map_.ravel(), minlength=256)[NOISE + 1 :]) + NOISE + 1
        if len(levels) <= MOST_PEOPLE:
            found, most_moved = tuple(levels.tolist()), _ROUNDED
    return tuple(
        people
        for people in range(1, MOST_PEOPLE + 1)
        if all(
            min(abs(level - 255 * marks / people) for marks in range(1, people + 1)) < most_moved
            for level in found
        )
    )


def plateaus(map_: NDArray[np.uint8]) -> tuple[int, ...]:
    """The frequent levels of a map that its noise does not explain, ascending: peaks of its histogram."""
    histogram = np.bincount(map_.ravel(), minlength=256)
    histogram[: NOISE + 1] = 0
    least = _LEAST_SHARE * histogram.sum()
    # Small plateaus are noisy: their middle is where a triangle over their levels holds most pixels.
    rest = np.convolve(histogram, _TRIANGLE, "same")
    around = np.convolve(histogram, np.ones(2 * _TOLERANCE + 1, np.int64), "same")
    rest[: _RINGING + 1] = 0
    found = []
    while rest.max() > 0:
        peak = int(rest.argmax())
        if around[peak] >= least:
            found.append(peak)
        rest[max(0, peak - _RINGING) : peak + _RINGING + 1] = 0
    return tuple(sorted(found))
