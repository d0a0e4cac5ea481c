"""Which images repeat an earlier one: equal bytes, or similar perceptual hashes. Works on arrays of hashes only."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from actors.perceptual_hash import BITS

Hashes = NDArray[np.uint64]
Places = NDArray[np.int64]

_FAR = np.iinfo(np.int64).max
_PAIRS_AT_ONCE = 1 << 20

EXACT = "duplicate"
NEAR = "near_duplicate"


@dataclass(frozen=True)
class Duplicates:
    """For each image, in order, the image that it repeats.

    Attributes:
        of: index of the image that it repeats, which is itself not a repetition; -1 for none. int64 [N].
        distance: bits in which their perceptual hashes differ; 0 for equal bytes. int64 [N].
        exact: whether the bytes are the same. bool [N].
    """

    of: Places
    distance: Places
    exact: NDArray[np.bool_]


def duplicates(contents: Hashes, looks: Hashes, nearness: int | None) -> Duplicates:
    """Find images that repeat an earlier one.

    Args:
        contents: uint64 [N], of the files' bytes.
        looks: uint64 [N], perceptual hashes.
        nearness: bits of 64 in which the perceptual hashes of near-duplicates may differ; None compares bytes only.

    The search is exact. Where two hashes differ in at most n bits, one of n + 1 pieces of them is equal, so only
    images that share a piece are compared.
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
    """Pairs (later, earlier, bits) at most `nearness` bits apart, sorted by the later image, then by the earlier."""
    found: list[Places] = []
    for low, high in _pieces(nearness):
        piece = _piece(looks[places], low, high)
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


def duplicates_between(
    contents: Hashes, looks: Hashes, other_contents: Hashes, other_looks: Hashes, nearness: int | None
) -> Duplicates:
    """Find images of one set that repeat an image of another, such as training images in an evaluation set.

    Neither set is compared with itself.

    Args:
        contents, looks: of the set, as for `duplicates`; N images.
        other_contents, other_looks: of the other set; M images.
        nearness: as for `duplicates`.

    Returns:
        For every image of the set, in `of` its match in the other set (0..M-1), or -1: the first with the same bytes,
        else the one with the fewest differing bits (the first, if several are equally near). The search is exact.
    """
    of, distance = np.full(len(contents), -1), np.zeros(len(contents), dtype=np.int64)
    values, first = np.unique(other_contents, return_index=True)
    if len(values):
        place = np.minimum(np.searchsorted(values, contents), len(values) - 1)
        same = values[place] == contents
        of[same] = first[place[same]]
    exact = of >= 0
    if nearness is not None:
        rest = np.flatnonzero(~exact)
        nearest = np.full(len(rest), _FAR)
        for rows, others, bits in pairs_between(looks[rest], other_looks, nearness):
            # Sorts by bits first and by the place in the other set second.
            np.minimum.at(nearest, rows, bits * len(other_looks) + others)
        found = nearest < _FAR
        distance[rest[found]], of[rest[found]] = np.divmod(nearest[found], len(other_looks))
    return Duplicates(of, distance, exact)


def pairs_between(
    looks: Hashes, other_looks: Hashes, nearness: int
) -> Iterator[tuple[Places, Places, Places]]:
    """All pairs of images of two sets whose perceptual hashes differ in few bits.

    Args:
        looks, other_looks: as for `duplicates_between`.
        nearness: bits of 64 in which they may differ.

    Yields:
        Places in the one set and in the other, and the bits that differ; about a million pairs at most at a time. A
        pair may come several times. The search is exact, as in `duplicates`.
    """
    for low, high in _pieces(nearness):
        for rows, others in _sharing(_piece(looks, low, high), _piece(other_looks, low, high)):
            bits = np.bitwise_count(looks[rows] ^ other_looks[others]).astype(np.int64)
            close = bits <= nearness
            yield rows[close], others[close], bits[close]


def _pieces(nearness: int) -> Iterator[tuple[np.uint64, np.uint64]]:
    """The bits of each of n + 1 pieces of a hash, the first and the one after the last."""
    return pairwise(np.linspace(0, BITS, nearness + 2).astype(np.uint64))


def _piece(looks: Hashes, low: np.uint64, high: np.uint64) -> Hashes:
    return (looks >> low) & np.uint64((1 << int(high - low)) - 1)


def _sharing(pieces: Hashes, others: Hashes) -> Iterator[tuple[Places, Places]]:
    """All pairs of places with equal values, at most about `_PAIRS_AT_ONCE` at a time."""
    order = np.argsort(others, kind="stable")
    values = others[order]
    begin, end = np.searchsorted(values, pieces, "left"), np.searchsorted(values, pieces, "right")
    counts = end - begin
    totals = np.cumsum(counts)
    first = 0
    while first < len(pieces):
        done = int(totals[first - 1]) if first else 0
        last = max(first + 1, int(np.searchsorted(totals, done + _PAIRS_AT_ONCE, "right")))
        rows = np.repeat(np.arange(first, last), counts[first:last])
        starts = np.repeat(totals[first:last] - counts[first:last] - done, counts[first:last])
        yield rows, order[begin[rows] + np.arange(len(rows)) - starts]
        first = last
