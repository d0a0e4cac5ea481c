"""Connected regions of a mask, by hand."""

from __future__ import annotations

import numpy as np

from actors.connected import connected


def test_regions_of_a_mask() -> None:
    assert connected(np.zeros((3, 3), np.bool_))[1] == 0
    number, count = connected(np.array([[1, 0, 1], [0, 1, 0], [0, 0, 0], [1, 1, 1]], np.bool_))
    assert count == 2 and number.dtype == np.int32
    assert number.tolist() == [[1, 0, 1], [0, 1, 0], [0, 0, 0], [2, 2, 2]]
