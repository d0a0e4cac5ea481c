"""The retry policy and how draws are dealt into batches, by hand."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from actors.corruption.retry_policy import Draw, RetryPolicy, Row, deal


def course(policy: RetryPolicy, *reasons: str) -> list[Draw]:
    """The draws that follow one another, each refused for a reason, until the sample fails or reasons run out."""
    draws = [policy.first]
    for reason in reasons:
        following = policy.after(draws[-1], reason)
        if following is None:
            break
        draws.append(following)
    return draws


def test_one_draw_at_one_depth():
    assert course(RetryPolicy((10,)), "unchanged") == [Draw(10)]
    assert course(RetryPolicy((10,)), "spilled") == [Draw(10)]


def test_unchanged_uses_all_draws_and_then_goes_deeper():
    policy = RetryPolicy((5, 10, 20), draws_per_step=2)
    assert course(policy, *["unchanged"] * 9) == [
        Draw(5, 0, 0), Draw(5, 1, 1), Draw(10, 2, 0), Draw(10, 3, 1), Draw(20, 4, 0), Draw(20, 5, 1)
    ]  # fmt: skip


def test_spilled_never_goes_deeper():
    policy = RetryPolicy((5, 10), draws_per_step=3)
    assert course(policy, "spilled", "spilled", "spilled") == [Draw(5, 0, 0), Draw(5, 1, 1), Draw(5, 2, 2)]
    # The last verdict at a depth decides: after one that spilled, deeper would only spill more.
    assert course(RetryPolicy((5, 10), 2), "unchanged", "spilled") == [Draw(5, 0, 0), Draw(5, 1, 1)]
    assert course(RetryPolicy((5, 10), 2), "spilled", "unchanged", "spilled", "spilled") == [
        Draw(5, 0, 0), Draw(5, 1, 1), Draw(10, 2, 0), Draw(10, 3, 1)
    ]  # fmt: skip


def test_what_the_judge_refuses_goes_deeper():
    policy = RetryPolicy((5, 10), draws_per_step=2)
    for reason in ("legal", "broken_before"):
        assert course(policy, *[reason] * 9) == [Draw(5, 0, 0), Draw(5, 1, 1), Draw(10, 2, 0), Draw(10, 3, 1)]


def test_a_first_round_brings_each_baseline_before_its_draw():
    pending = dict.fromkeys(range(3), Draw(10))
    draw = Draw(10)
    assert list(deal(pending, set(), 4)) == [
        (10, [Row(0, None), Row(0, draw), Row(1, None), Row(1, draw)]),
        (10, [Row(2, None), Row(2, draw)]),
    ]


def test_later_rounds_are_filled_from_the_whole_shard_by_depth():
    pending = {9: Draw(5, 1, 1), 2: Draw(10, 2), 40: Draw(5, 1, 1), 41: Draw(10, 3, 1)}
    baselines = {(9, 5), (40, 5), (41, 5), (41, 10), (2, 5)}
    assert list(deal(pending, baselines, 16)) == [
        (5, [Row(9, Draw(5, 1, 1)), Row(40, Draw(5, 1, 1))]),
        (10, [Row(2, None), Row(2, Draw(10, 2)), Row(41, Draw(10, 3, 1))]),
    ]


def test_nothing_pending_deals_nothing():
    assert list(deal({}, set(), 4)) == []


@given(
    pending=st.dictionaries(
        st.integers(0, 30), st.builds(Draw, st.sampled_from([5, 10]), st.integers(0, 3)), max_size=20
    ),
    baselines=st.sets(st.tuples(st.integers(0, 30), st.sampled_from([5, 10]))),
    size=st.integers(1, 8),
    seed=st.randoms(),
)
def test_every_draw_is_dealt_once_after_its_baseline(pending, baselines, size, seed):
    batches = list(deal(pending, baselines, size))
    rows = [(steps, row) for steps, batch in batches for row in batch]
    assert all(0 < len(batch) <= size for _, batch in batches)
    assert {row.place: row.draw for _, row in rows if row.draw} == pending
    assert len(rows) == len(pending) + sum(
        (place, draw.steps) not in baselines for place, draw in pending.items()
    )
    there = set(baselines)
    for steps, row in rows:
        if row.draw is None:
            assert (row.place, steps) not in there
            there.add((row.place, steps))
        else:
            assert row.draw.steps == steps and (row.place, steps) in there
    # Only the last batch of a depth may be short, and the order in which draws became pending does not matter.
    shorter = [steps for steps, batch in batches if len(batch) < size]
    assert len(shorter) == len(set(shorter))
    shuffled = list(pending.items())
    seed.shuffle(shuffled)
    assert list(deal(dict(shuffled), baselines, size)) == batches
