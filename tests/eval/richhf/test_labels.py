"""Policies by hand: each choice on maps of which the answer can be counted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from actors.errors import Reject
from eval.richhf.labels import LabelPolicy, annotators_of, check_annotators, votes_in
from eval.richhf.record import Map


def blocks(*levels: int) -> Map:
    """A column of 16 x 16 blocks, one for each level, above a black one."""
    return Map(np.repeat(np.repeat(np.array([*levels, 0], np.uint8)[:, None], 16, 0), 16, 1), False)


def decided(map_: Map, **policy: Any) -> tuple[int, str]:
    found = annotators_of(map_, LabelPolicy(**policy))
    return found.number, found.decided


def test_one_number_needs_no_policy():
    for policy in ("three", "fewest", "most", "reject"):
        assert decided(blocks(64, 128, 191), ambiguous=policy) == (4, "exact")
        assert decided(blocks(51), ambiguous=policy) == (5, "exact")
        assert decided(blocks(43, 213), ambiguous=policy) == (6, "exact")


@pytest.mark.parametrize(
    ("levels", "three", "fewest", "most"),
    [((85, 170), 3, 3, 6), ((128,), 4, 2, 6), ((255,), 3, 1, 6), ((), 3, 1, 6)],
)
def test_several_numbers(levels: tuple[int, ...], three: int, fewest: int, most: int):
    map_ = blocks(*levels)
    assert decided(map_) == (three, "ambiguous")
    assert decided(map_, ambiguous="fewest") == (fewest, "ambiguous")
    assert decided(map_, ambiguous="most") == (most, "ambiguous")
    policy = LabelPolicy(ambiguous="reject")
    with pytest.raises(Reject, match="several numbers of annotators: ") as why:
        check_annotators(annotators_of(map_, policy), policy)
    assert why.value.reason == "ambiguous_map"


def test_no_number():
    assert decided(blocks(70), unexplained="three") == (3, "unexplained")
    policy = LabelPolicy()
    with pytest.raises(Reject, match="no number of annotators from 1 to 6") as why:
        check_annotators(annotators_of(blocks(70), policy), policy)
    assert why.value.reason == "unexplained_map"


def test_least_annotators():
    policy = LabelPolicy(ambiguous="fewest")
    with pytest.raises(
        Reject, match=r"2 annotators marked it \(its levels fit 2, 4, 6\); 3 are wanted"
    ) as why:
        check_annotators(annotators_of(blocks(128), policy), policy)
    assert why.value.reason == "few_annotators"
    policy = LabelPolicy(ambiguous="fewest", least_annotators=2)
    check_annotators(annotators_of(blocks(128), policy), policy)


@pytest.mark.parametrize(
    ("votes", "wanted"),
    [("share", (1, 2, 2, 3, 4, 4)), ("two", (1, 2, 2, 2, 2, 2)), ("majority", (1, 2, 2, 3, 3, 4))],
)
def test_two_of_three_for_other_numbers(votes: Any, wanted: tuple[int, ...]):
    policy = LabelPolicy(votes=votes)
    assert tuple(policy.wanted(number) for number in range(1, 7)) == wanted


def test_votes_and_soft_labels():
    mask, soft = votes_in(blocks(85, 170, 255), 3, LabelPolicy())
    assert mask[::16, 0].tolist() == [False, True, True, False]
    assert soft[::16, 0].tolist() == [85, 170, 255, 0]
    mask, soft = votes_in(blocks(51, 102, 153, 204), 5, LabelPolicy(votes="two"))
    assert mask[::16, 0].tolist() == [False, True, True, True, False]
    assert soft[::16, 0].tolist() == [51, 102, 153, 204, 0]


def test_an_empty_label():
    assert not votes_in(blocks(85), 3, LabelPolicy())[0].any()
    with pytest.raises(Reject, match="no pixel was marked by 2 of 3 annotators") as why:
        votes_in(blocks(85), 3, LabelPolicy(empty="reject"))
    assert why.value.reason == "no_votes"
