"""The benchmarks of RichHF-18k: the simulator's own arithmetic, and a confusion matrix that can be counted."""

from __future__ import annotations

import numpy as np

from benchmarks.richhf.annotators import Tally, table
from benchmarks.richhf.simulated import Drawn, draw_map


def fits(annotators: int, *marks: int) -> tuple[int, ...]:
    return Drawn(np.array([[0, *marks]], np.uint8), annotators, b"").fits


def test_what_fits_by_fractions():
    assert fits(3, 1, 2) == (3, 6)
    assert fits(4, 2) == (2, 4, 6)
    assert fits(4, 1) == (4,)
    assert fits(6, 1) == (6,)
    assert fits(5, 5) == (1, 2, 3, 4, 5, 6)
    assert fits(2) == (1, 2, 3, 4, 5, 6)


def test_the_same_seed_gives_the_same_map():
    assert draw_map(4, 1, side=64).data == draw_map(4, 1, side=64).data
    assert draw_map(4, 1, side=64).data != draw_map(4, 2, side=64).data


def test_shares():
    tally = Tally(maps=10, ambiguous=6, exact=9)
    tally.found.update({(4, "4"): 2, (5, "5"): 1, (5, "several"): 1})
    assert tally.right == 0.75
    assert "right 75.00% of 4 maps that fit one number; 60.0% of 10 maps fit several" in table(tally)
