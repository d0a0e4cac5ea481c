"""The order of training, against references that are written otherwise: lists that are cut, dealt and counted."""

from __future__ import annotations

import tracemalloc
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.seeding import seed_for
from train.data.order import CYCLE, Draw, Order, permutation, slots_of


def order(*counts: list[int], weights: list[float] | None = None, seed: int = 0, **more: int) -> Order:
    digests = [f"digest {number}" for number in range(len(counts))]
    return Order(counts, weights or [1.0] * len(counts), seed=seed, digests=digests, **more)


def places(one: Order, start: int, end: int) -> list[tuple[int, int]]:
    return [(draw.shard, draw.row) for draw in map(one.at, range(start, end))]


def by_stream(found: list[tuple[int, int]], cut: int) -> list[list[tuple[int, int]]]:
    """The first pass as streams, given in which order they took their turns."""
    streams: list[list[tuple[int, int]]] = [[] for _ in range(cut)]
    for turn, start in enumerate(range(0, len(found), cut)):
        part = found[start : start + cut]
        seed = seed_for(0, "digest 0", f"order/turns/{turn}")
        for stream, place in zip(permutation(len(part), seed).tolist(), part, strict=True):
            streams[stream].append(place)
    return streams


@settings(max_examples=150, deadline=None)
@given(
    counts=st.lists(st.integers(0, 40), min_size=1, max_size=30).filter(any),
    streams=st.integers(1, 70),
    block=st.integers(1, 30),
    seed=st.integers(0, 2**63 - 1),
)
def test_every_pass_reads_every_sample_once(counts: list[int], streams: int, block: int, seed: int) -> None:
    one, total = order(counts, seed=seed, streams=streams, block=block), sum(counts)
    every = {(shard, row) for shard, count in enumerate(counts) for row in range(count)}
    for number in range(3):
        draws = [one.at(position) for position in range(number * total, (number + 1) * total)]
        assert {(draw.shard, draw.row) for draw in draws} == every
        assert {draw.pass_number for draw in draws} == {number}


@settings(max_examples=50, deadline=None)
@given(
    counts=st.lists(st.integers(0, 40), min_size=1, max_size=20).filter(any),
    streams=st.integers(1, 70),
    block=st.integers(1, 30),
)
def test_a_pass_is_a_line_of_shards_cut_into_streams_that_take_turns(
    counts: list[int], streams: int, block: int
) -> None:
    """With blocks of one sample, nothing is shuffled but the shards: the line can be put together again."""
    total = sum(counts)
    cut = min(streams, total)
    plain = places(order(counts, streams=streams, block=1), 0, total)
    dealt = by_stream(plain, cut)
    line = list(chain.from_iterable(dealt))
    assert [len(stream) for stream in dealt] == [len(part) for part in np.array_split(np.arange(total), cut)]
    shards = list(dict.fromkeys(shard for shard, _ in line))
    assert line == [(shard, row) for shard in shards for row in range(counts[shard])]

    shuffled = places(order(counts, streams=streams, block=block), 0, total)
    for found, stream in zip(by_stream(shuffled, cut), dealt, strict=True):
        for start in range(0, len(stream), block):
            assert sorted(found[start : start + block]) == sorted(stream[start : start + block])


def test_fewer_shards_than_streams_deals_the_samples_of_a_shard() -> None:
    """Four streams over one shard of ten: they begin at rows 0, 3, 6 and 8."""
    found = [row for _, row in places(order([10], streams=4, block=1), 0, 10)]
    assert [sorted(found[:4]), sorted(found[4:8]), sorted(found[8:])] == [[0, 3, 6, 8], [1, 4, 7, 9], [2, 5]]


def test_few_samples_meet_others_in_every_pass() -> None:
    """40 passes of ten samples, with more streams than samples."""
    found = places(order([10]), 0, 400)
    passes = [tuple(found[start : start + 10]) for start in range(0, 400, 10)]
    assert len(set(passes)) == 40
    firsts = Counter(one[0] for one in passes)
    # Each comes first four times, with a deviation of 1.9.
    assert len(firsts) >= 8 and max(firsts.values()) < 14


def test_the_next_pass_goes_on_within_a_batch() -> None:
    one = order([3, 2], streams=2)
    assert [one.at(position).pass_number for position in range(11)] == [0] * 5 + [1] * 5 + [2]
    assert one.read_before(7) == (7,) and one.samples == (5,)


@pytest.mark.parametrize("workers", [1, 3, 8])
@pytest.mark.parametrize("first", [0, 17, 53])
def test_any_number_of_workers_reads_the_same_from_any_step(workers: int, first: int) -> None:
    batch, steps = 24, 60
    counts, weights = ([50, 3, 0, 31], [9]), [2.0, 1.0]
    expected = [order(*counts, weights=weights).at(position) for position in range(batch * steps)]
    found: dict[int, Draw] = {}
    for worker in range(workers):
        alone = order(*counts, weights=weights)  # nothing is shared
        for step in range(first, steps):
            for slot in range(worker, batch, workers):
                found[step * batch + slot] = alone.at(step * batch + slot)
    assert [found[position] for position in sorted(found)] == expected[first * batch :]


def test_seeds_passes_and_digests_give_other_orders() -> None:
    counts = [20] * 10

    def first_pass(seed: int, digest: str, number: int = 0) -> list[tuple[int, int]]:
        one = Order([counts], [1.0], seed=seed, digests=[digest], streams=8, block=16)
        return places(one, number * 200, number * 200 + 200)

    orders = [first_pass(0, "a"), first_pass(1, "a"), first_pass(0, "b"), first_pass(0, "a", 1)]
    assert len({tuple(one) for one in orders}) == 4
    assert orders[0] == first_pass(0, "a")
    # Of 200 places, two random orders share about one.
    assert all(sum(map(tuple.__eq__, orders[0], other)) < 10 for other in orders[1:])
    shards = [list(dict.fromkeys(shard for shard, _ in one[::8])) for one in orders]
    assert len(set(map(tuple, shards))) == 4


def test_shuffling_goes_across_shards_and_within_them() -> None:
    """1,024 samples in 32 shards: rank correlations of position with shard and row, and shards in a batch."""
    found = np.array(places(order([32] * 32, streams=16, block=64), 0, 1024))
    position = np.arange(1024)
    for column in (found[:, 0], found[:, 1]):
        ranks = column.argsort(kind="stable").argsort()
        # Of independent ranks it is normal about 0 with a deviation of 1 / sqrt(1023) = 0.031.
        assert abs(np.corrcoef(position, ranks)[0, 1]) < 4 * 0.0313
    # Neighbours within a stream are not neighbours in their shard: of random pairs of one shard, 1 in 16 is.
    stream = found[0::16]
    steps = [abs(b[1] - a[1]) for a, b in pairwise(stream) if a[0] == b[0]]
    assert np.mean([step == 1 for step in steps]) < 0.25
    # A batch has samples of as many shards as there are streams that are in different ones: 16 streams of 2 shards.
    distinct = [len(set(batch)) for batch in found[:, 0].reshape(64, 16)]
    assert min(distinct) == 16


def test_a_mix_has_exact_shares_in_every_cycle() -> None:
    one = order([70], [5, 6], [40], weights=[0.7, 0.2, 0.1])
    data_sets = [one.at(position).data_set for position in range(4 * CYCLE)]
    cycles = [tuple(data_sets[start : start + CYCLE]) for start in range(0, 4 * CYCLE, CYCLE)]
    assert [Counter(cycle) for cycle in cycles] == [Counter({0: 700, 1: 200, 2: 100})] * 4
    assert len(set(cycles)) == 4
    # In a random order, the rarest comes in runs of two about ten times, and never far from evenly spread.
    firsts = [cycle[:500].count(2) for cycle in cycles]
    assert all(
        abs(count - 50) < 5 * 4.75 for count in firsts
    )  # hypergeometric: 50 +- sqrt(1000 * .1 * .9 / 4)


def test_a_data_set_in_a_mix_is_read_as_it_is_alone() -> None:
    one = order([70, 1], [5, 6], [40], weights=[3, 1, 2], streams=6, block=4)
    draws = [one.at(position) for position in range(2500)]
    for number, counts in enumerate(([70, 1], [5, 6], [40])):
        alone = Order([counts], [1], seed=0, digests=[f"digest {number}"], streams=6, block=4)
        mine = [draw for draw in draws if draw.data_set == number]
        assert [(draw.pass_number, draw.shard, draw.row) for draw in mine] == [
            (draw.pass_number, draw.shard, draw.row) for draw in map(alone.at, range(len(mine)))
        ]
    for position in (0, 1, 999, 1000, 1001, 2500):
        counted = Counter(draw.data_set for draw in draws[:position])
        assert one.read_before(position) == tuple(counted[number] for number in range(3))


@pytest.mark.parametrize(
    ("weights", "slots"),
    [
        ([5], (1000,)),
        ([1, 1, 1], (334, 333, 333)),
        ([0.7, 0.2, 0.1], (700, 200, 100)),
        ([0.1, 0.2, 0.7], (100, 200, 700)),
        ([2, 0, 6], (250, 0, 750)),
        ([1, 1e-9], (999, 1)),
        ([1e-9, 1, 1e-300], (1, 998, 1)),
        ([1e-9, 1, 1, 1e-9], (1, 499, 499, 1)),
        ([1] * 1000, (1,) * 1000),
        ([1, 2, 4], (143, 286, 571)),  # 142.86, 285.71 and 571.43
    ],
)
def test_slots_by_largest_remainders(weights: list[float], slots: tuple[int, ...]) -> None:
    assert slots_of(weights) == slots


@given(weights=st.lists(st.floats(0, 1e6), min_size=1, max_size=40).filter(any))
def test_slots_add_up_and_follow_the_weights(weights: list[float]) -> None:
    slots = slots_of(weights)
    assert sum(slots) == CYCLE
    assert all((held > 0) == (weight > 0) for held, weight in zip(slots, weights, strict=True))
    above = sum(weight > 0 for weight in weights)
    for held, weight in zip(slots, weights, strict=True):
        assert abs(held - CYCLE * weight / sum(weights)) < 1 + above


def test_the_order_never_changes() -> None:
    """These numbers are stored in no checkpoint: a training goes on only if they stay what they are."""
    assert permutation(10, 7).tolist() == np.argsort(np.random.PCG64(7).random_raw(10)).tolist()
    assert sorted(permutation(1000, 7)) == list(range(1000))
    one = Order([[4, 3], [2]], [1, 1], seed=11, digests=["a", "b"], streams=3, block=2)
    found = [(draw.data_set, draw.pass_number, draw.shard, draw.row) for draw in map(one.at, range(10))]
    assert found == GOLDEN


GOLDEN = [
    (1, 0, 0, 0),
    (0, 0, 0, 1),
    (0, 0, 1, 0),
    (0, 0, 1, 1),
    (0, 0, 1, 2),
    (0, 0, 0, 3),
    (1, 0, 0, 1),
    (0, 0, 0, 0),
    (0, 0, 0, 2),
    (0, 1, 1, 1),
]


def test_wrong_arguments() -> None:
    for weights, words in (
        ([-1.0], "none may be negative"),
        ([0.0], "at least one must be above 0"),
        ([float("nan")], "none may be negative"),
        ([float("inf")], "none may be negative"),
        ([1.0] * 1001, "at most 1,000 data sets"),
    ):
        with pytest.raises(ValueError, match=words):
            slots_of(weights)
    with pytest.raises(ValueError, match="1 counts, 2 weights and 1 digests"):
        Order([[1]], [1, 1], seed=0, digests=["a"])
    with pytest.raises(ValueError, match="streams is 0 and block is 256"):
        order([1], streams=0)
    with pytest.raises(ValueError, match="data set 1 has no samples, and a weight of 2"):
        order([1], [0, 0], weights=[1, 2])
    assert order([1], [0], weights=[1, 0]).at(5) == Draw(0, 5, 0, 0)


def test_threads_share_an_order() -> None:
    shared = order([64] * 40, [9] * 7, weights=[3, 1], streams=16, block=8)
    expected = [order([64] * 40, [9] * 7, weights=[3, 1], streams=16, block=8).at(p) for p in range(4000)]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(shared.at, range(4000))) == expected


def test_memory_does_not_grow_with_samples_or_positions() -> None:
    one = order([1_000_000] * 10)
    tracemalloc.start()
    for position in range(0, 30_000_000, 10_007):
        one.at(position)
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()
