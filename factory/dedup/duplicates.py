"""Which of many pictures are there before: the same bytes, or nearly the same look. Arrays only, no pictures."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from actors.perceptual_hash import BITS

Hashes = NDArray[np.uint64]
Places = NDArray[np.int64]

EXACT = "duplicate"
NEAR = "near_duplicate"


@dataclass(frozen=True)
class Duplicates:
    """For every picture in its order, what it repeats.

    Attributes:
        of: place of the picture that it repeats, which itself repeats none; -1 where it repeats none. int64 [N].
        distance: bits in which the two look different; 0 for the same bytes. int64 [N].
        exact: whether the bytes are the same. bool [N].
    """

    of: Places
    distance: Places
    exact: NDArray[np.bool_]


def duplicates(contents: Hashes, looks: Hashes, nearness: int | None) -> Duplicates:
    """Finds pictures that repeat an earlier one.

    Args:
        contents: uint64 [N], of the files' bytes.
        looks: uint64 [N], perceptual hashes.
        nearness: bits of 64 in which two pictures may differ and still be the same look; None looks at bytes only.

    The search is exact. Where two hashes differ in at most n bits, one of n + 1 pieces of them is equal, so only
    pictures that share a piece are compared.
    """
    count = len(contents)
    of, distance = np.full(count, -1), np.zeros(count, dtype=np.int64)
    first = _first_of_equals(contents)
    exact = first != np.arange(count)
    of[exact] = first[exact]
    if nearness is not None:
        singles = np.flatnonzero(~exact)
        same_look = singles[_first_of_equals(looks[singles])]
        repeats = same_look != singles
        of[singles[repeats]] = same_look[repeats]
        rest = singles[~repeats]
        for later, earlier, bits in _near(looks, rest, nearness):
            if of[earlier] < 0 and (of[later] < 0 or bits < distance[later]):
                of[later], distance[later] = earlier, bits
    # What repeats a repetition repeats the first.
    repeated = np.flatnonzero(of >= 0)
    while len(chained := repeated[of[of[repeated]] >= 0]):
        distance[chained] = np.bitwise_count(looks[chained] ^ looks[of[of[chained]]])
        of[chained] = of[of[chained]]
    return Duplicates(of, distance, exact)


def _first_of_equals(values: Hashes) -> Places:
    """For every value the place of the first equal one."""
    _, first, inverse = np.unique(values, return_index=True, return_inverse=True)
    return first[inverse].astype(np.int64)


def _near(looks: Hashes, places: Places, nearness: int) -> Iterator[tuple[int, int, int]]:
    """Pairs (later, earlier, bits) at most so many bits apart, later ones rising, earlier ones rising for each."""
    found: list[Places] = []
    edges = np.linspace(0, BITS, nearness + 2).astype(np.uint64)
    for low, high in pairwise(edges):
        piece = (looks[places] >> low) & np.uint64((1 << int(high - low)) - 1)
        order = places[np.argsort(piece, kind="stable")]
        piece = np.sort(piece, kind="stable")
        for shift in range(1, len(order)):
            together = np.flatnonzero(piece[shift:] == piece[:-shift])
            if not len(together):
                break
            one, other = order[together], order[together + shift]
            bits = np.bitwise_count(looks[one] ^ looks[other]).astype(np.int64)
            close = bits <= nearness
            pair = np.stack([np.maximum(one, other), np.minimum(one, other), bits], axis=1)[close]
            found.append(pair)
    if found:
        pairs = np.unique(np.concatenate(found), axis=0)
        yield from ((int(later), int(earlier), int(bits)) for later, earlier, bits in pairs)
