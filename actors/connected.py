"""Connected regions of a mask."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

_EIGHT = np.ones((3, 3), np.bool_)


def connected(mask: NDArray[np.bool_]) -> tuple[NDArray[np.int32], int]:
    """Numbers the connected regions of a mask; pixels that touch at a corner are connected.

    Args:
        mask: bool [H, W].

    Returns:
        int32 [H, W]: 0 outside, and 1 to N in the order of the regions' first pixels, row by row; and N.
    """
    number, count = ndimage.label(mask, structure=_EIGHT, output=np.int32)
    return number, int(count)
