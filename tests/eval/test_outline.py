"""The outline of a mask: small ones drawn by hand, random ones filled again."""

from __future__ import annotations

import re

import numpy as np
import pytest
from numpy.typing import NDArray

from eval.outline import outline_path


@pytest.mark.parametrize(
    ("rows", "path"),
    [
        (["...", "..."], ""),
        (["...", "..#"], "M2 1h1v1h-1z"),
        (["##", "##"], "M0 0h2v2h-2z"),
        (["#.", "##"], "M0 0h1v1h1v1h-2z"),
        (["###", "#.#", "###"], "M0 0h3v3h-3zM1 1h1v1h-1z"),
        (["#.", ".#"], "M0 0h1v1h-1zM2 1h-1v1h1z"),
        ([".#", "#."], "M1 0h1v1h-1zM0 1h1v1h-1z"),
    ],
)
def test_the_outline_of_a_small_mask_is_as_drawn_by_hand(rows: list[str], path: str) -> None:
    assert outline_path(np.array([[pixel == "#" for pixel in row] for row in rows])) == path


@pytest.mark.parametrize("density", [0.02, 0.3, 0.5, 0.9, 1.0])
def test_filling_the_outline_gives_the_mask_again(density: float) -> None:
    mask = np.random.default_rng(7).random((23, 41)) < density
    assert np.array_equal(_filled(outline_path(mask), mask.shape), mask)


def _filled(path: str, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Even-odd fill: every vertical edge turns what is to the right of it inside out."""
    inside = np.zeros(shape, dtype=bool)
    x = y = 0
    start = (0, 0)
    for command, numbers in re.findall(r"([Mhvz])([-\d ]*)", path):
        fell_from = y
        if command == "M":
            x, y = (int(number) for number in numbers.split())
            fell_from, start = y, (x, y)
        elif command == "h":
            x += int(numbers)
        elif command == "v":
            y += int(numbers)
        else:
            assert x == start[0], "a loop is closed by a vertical edge"
            y = start[1]
        inside[min(fell_from, y) : max(fell_from, y), x:] ^= True
    return inside
