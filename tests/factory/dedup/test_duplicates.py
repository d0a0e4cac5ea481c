"""Repeated images by their hashes: against a plain double loop, and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory.dedup.duplicates import duplicates, duplicates_between, pairs_between

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


def nearest_by_a_loop(
    contents: list[int], looks: list[int], others: list[int], other_looks: list[int], nearness: int | None
) -> list[tuple[int, int, bool]]:
    """For each, its match in the other set (or -1), the bits that differ, and whether the bytes are the same."""
    found = []
    for content, look in zip(contents, looks, strict=True):
        if content in others:
            found.append((others.index(content), 0, True))
            continue
        bits = [(bin(look ^ other).count("1"), place) for place, other in enumerate(other_looks)]
        best = min(bits, default=(65, -1))
        found.append(
            (best[1], best[0], False) if best[0] <= (-1 if nearness is None else nearness) else (-1, 0, False)
        )
    return found


def test_two_sets_by_hand():
    found = duplicates_between(
        hashes(7, 1, 2, 3, 3), hashes(0, 0b1, 0b111, ALL, ALL), hashes(9, 8, 7, 7), hashes(0b11, 0, ALL, 0), 2
    )
    assert found.of.tolist() == [
        2,
        0,
        0,
        2,
        2,
    ]  # the second and third are one bit off the first of the other set
    assert found.distance.tolist() == [0, 1, 1, 0, 0]
    assert found.exact.tolist() == [True, False, False, False, False]


def test_a_set_is_not_compared_with_itself():
    assert duplicates_between(hashes(1, 1), hashes(0, 0), hashes(2), hashes(ALL), 4).of.tolist() == [-1, -1]


@pytest.mark.parametrize("nearness", [None, 4])
def test_a_set_of_nothing(nearness: int | None):
    assert duplicates_between(hashes(), hashes(), hashes(1), hashes(1), nearness).of.tolist() == []
    assert duplicates_between(hashes(1), hashes(1), hashes(), hashes(), nearness).of.tolist() == [-1]


ITEMS = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 63)), max_size=16)


@given(ITEMS, ITEMS, st.sampled_from([None, 0, 1, 2, 5]), st.sampled_from([1, 7, 1 << 20]))
def test_two_sets_against_a_loop(
    items: list[tuple[int, int]], others: list[tuple[int, int]], nearness: int | None, at_once: int
):
    def columns(pairs: list[tuple[int, int]]) -> tuple[list[int], list[int]]:
        looks = [sum(((bits >> place) & 1) << (13 * place % 64) for place in range(6)) for _, bits in pairs]
        return [content for content, _ in pairs], looks

    (contents, looks), (other_contents, other_looks) = columns(items), columns(others)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("factory.dedup.duplicates._PAIRS_AT_ONCE", at_once)
        found = duplicates_between(
            hashes(*contents), hashes(*looks), hashes(*other_contents), hashes(*other_looks), nearness
        )
    expected = nearest_by_a_loop(contents, looks, other_contents, other_looks, nearness)
    assert (
        list(zip(found.of.tolist(), found.distance.tolist(), found.exact.tolist(), strict=True)) == expected
    )


def test_two_large_sets_against_all_pairs():
    rng = np.random.default_rng(2)
    looks, others = rng.integers(2**63, size=(2, 1500)).astype(np.uint64)
    flips = np.uint64(1) << rng.integers(64, size=(6, 500)).astype(np.uint64)
    looks[:500] = others[rng.integers(1500, size=500)] ^ np.bitwise_xor.reduce(
        flips[: rng.integers(1, 7)], axis=0
    )
    others[:700] = 0  # as many black frames
    looks[-300:] = 1
    bits = np.bitwise_count(looks[:, None] ^ others[None, :]).astype(int)
    found = duplicates_between(
        np.arange(1500, dtype=np.uint64), looks, np.arange(1500, 3000, dtype=np.uint64), others, 4
    )
    expected = np.where(bits.min(1) <= 4, bits.argmin(1), -1)
    assert found.of.tolist() == expected.tolist() and (expected >= 0).sum() >= 300
    assert found.distance[found.of >= 0].tolist() == bits.min(1)[found.of >= 0].tolist()


@given(ITEMS, ITEMS, st.sampled_from([0, 1, 2, 5]), st.sampled_from([1, 7, 1 << 20]))
def test_all_pairs_against_a_loop(
    items: list[tuple[int, int]], others: list[tuple[int, int]], nearness: int, at_once: int
):
    ours, theirs = ([look * 0x0101010101 for _, look in pairs] for pairs in (items, others))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("factory.dedup.duplicates._PAIRS_AT_ONCE", at_once)
        found = {
            pair
            for parts in pairs_between(hashes(*ours), hashes(*theirs), nearness)
            for pair in zip(*(part.tolist() for part in parts), strict=True)
        }
    assert found == {
        (row, other, bits)
        for row, one in enumerate(ours)
        for other, two in enumerate(theirs)
        if (bits := bin(one ^ two).count("1")) <= nearness
    }
