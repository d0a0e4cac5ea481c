"""Repeated pictures by their hashes: against a plain double loop, and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory.dedup.duplicates import duplicates

ALL = 2**64 - 1


def hashes(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.uint64)


def by_a_loop(contents: list[int], looks: list[int], nearness: int | None) -> list[bool]:
    """Whether each repeats an earlier one that repeats none itself."""
    repeats: list[bool] = []
    for here in range(len(contents)):
        kept = [before for before in range(here) if not repeats[before]]
        same = any(contents[here] == contents[before] for before in range(here))
        near = nearness is not None and any(
            bin(looks[here] ^ looks[before]).count("1") <= nearness for before in kept
        )
        repeats.append(same or near)
    return repeats


def test_the_same_bytes_and_the_same_look():
    found = duplicates(hashes(7, 8, 7, 9, 8), hashes(0, ALL, 0, 0b111, ALL), 3)
    assert found.of.tolist() == [-1, -1, 0, 0, 1]
    assert found.distance.tolist() == [0, 0, 0, 3, 0]
    assert found.exact.tolist() == [False, False, True, False, True]


def test_one_bit_too_many():
    assert duplicates(hashes(1, 2), hashes(0, 0b1111), 3).of.tolist() == [-1, -1]
    assert duplicates(hashes(1, 2), hashes(0, 0b1111), 4).of.tolist() == [-1, 0]


def test_only_bytes():
    found = duplicates(hashes(1, 2, 1), hashes(0, 0, 0), None)
    assert found.of.tolist() == [-1, -1, 0]


def test_a_chain_ends_at_what_repeats_nothing():
    """The second looks like the first; the third is near the second only, and so stays; the fourth has its bytes."""
    found = duplicates(hashes(1, 2, 3, 3, 2), hashes(0, 0b11, 0b1111, 0b1111, 0b11), 2)
    assert found.of.tolist() == [-1, 0, -1, 2, 0]
    assert found.distance.tolist() == [0, 2, 0, 0, 2]


def test_the_bits_may_differ_anywhere():
    rng = np.random.default_rng(0)
    base = int(rng.integers(2**63))
    for _ in range(200):
        places = rng.choice(64, size=4, replace=False)
        other = base ^ sum(1 << int(place) for place in places)
        assert duplicates(hashes(1, 2), hashes(base, other), 4).of.tolist() == [-1, 0]
        assert duplicates(hashes(1, 2), hashes(base, other), 3).of.tolist() == [-1, -1]


def test_nothing():
    assert duplicates(hashes(), hashes(), 4).of.tolist() == []


@given(
    st.lists(st.tuples(st.integers(0, 6), st.integers(0, 63)), max_size=24),
    st.sampled_from([None, 0, 1, 2, 5]),
)
def test_against_a_loop(items: list[tuple[int, int]], nearness: int | None):
    """Few bits, so that many are near; spread over the word, so that several pieces are."""
    looks = [sum(((bits >> place) & 1) << (13 * place % 64) for place in range(6)) for _, bits in items]
    # The same bytes look the same.
    first: dict[int, int] = {}
    looks = [first.setdefault(content, look) for (content, _), look in zip(items, looks, strict=True)]
    contents = [content for content, _ in items]
    found = duplicates(hashes(*contents), hashes(*looks), nearness)
    assert (found.of >= 0).tolist() == by_a_loop(contents, looks, nearness)
    for place, of in enumerate(found.of):
        if of >= 0:
            assert found.of[of] == -1 and of < place


@pytest.mark.parametrize("nearness", [0, 4])
def test_many_alike(nearness: int):
    """A thousand black frames among others."""
    rng = np.random.default_rng(1)
    looks = rng.integers(2**63, size=3000).astype(np.uint64)
    looks[::3] = 0
    found = duplicates(np.arange(3000, dtype=np.uint64), looks, nearness)
    assert (found.of >= 0).sum() == 999 and set(found.of[3::3].tolist()) == {0}
