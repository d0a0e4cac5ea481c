"""The outline of a mask as an SVG path, which stays crisp at any scale."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def outline_path(mask: NDArray[np.bool_]) -> str:
    """Path data of closed loops along the edges of a mask's pixels, one command for each straight run.

    The loops turn only at lattice points where one or three of the four pixels around are inside, or two that
    touch by a corner. Along a row of the lattice such points pair up as ends of horizontal runs, and along a
    column as ends of vertical runs, so that following both in turn draws each loop. Pixels that touch by a
    corner are kept apart.

    Args:
        mask: bool [H, W].

    Returns:
        Data for the `d` of a path in a view box of `0 0 W H`; empty for an empty mask.
    """
    wide = np.pad(mask, 1)
    nw, ne, sw, se = wide[:-1, :-1], wide[:-1, 1:], wide[1:, :-1], wide[1:, 1:]
    turn_y, turn_x = np.nonzero(nw ^ ne ^ sw ^ se)
    touch_y, touch_x = np.nonzero((nw == se) & (ne == sw) & (nw != ne))

    # Where two pixels touch by a corner, two loops turn: the first has the run to the left, the second the
    # one to the right; the run upwards is the first's if the upper left pixel is inside, else the second's.
    falls = nw[touch_y, touch_x].astype(np.int64)
    single, first, second = np.zeros_like(turn_x), np.zeros_like(touch_x), np.ones_like(touch_x)
    x = np.concatenate([turn_x, touch_x, touch_x])
    y = np.concatenate([turn_y, touch_y, touch_y])
    across = _partners(np.lexsort((np.concatenate([single, first, second]), x, y)))
    down = _partners(np.lexsort((np.concatenate([single, 1 - falls, falls]), y, x)))

    drawn = [False] * len(x)
    path: list[str] = []
    for start in range(len(x)):
        if drawn[start]:
            continue
        path.append(f"M{x[start]} {y[start]}")
        here = start
        while not drawn[here]:
            corner = across[here]
            drawn[here] = drawn[corner] = True
            path.append(f"h{x[corner] - x[here]}")
            here = down[corner]
            path.append("z" if here == start else f"v{y[here] - y[corner]}")
    return "".join(path)


def _partners(order: NDArray[np.int64]) -> list[int]:
    """For every corner the other end of its run, where `order` lists the two ends of each run in turn."""
    other = np.empty_like(order)
    other[order[0::2]], other[order[1::2]] = order[1::2], order[0::2]
    return [int(index) for index in other]
