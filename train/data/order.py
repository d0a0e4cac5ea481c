"""Which sample stands at which position of a training: a pure function of (digests of the data sets, seed, position).

Step s reads the positions from s * batch on. Workers take slots of a batch, so that any number of them reads the same,
and resuming at a step is arithmetic. The fixed number of logical streams is that of MosaicML's streaming, whose elastic
determinism this follows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from actors.seeding import seed_for

CYCLE = 1000
"""Positions after which the shares of a mix are exact again."""

_CYCLES_HELD, _PASSES_HELD = 4, 2

Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Draw:
    """A sample of a data set.

    Attributes:
        data_set: its number in the mix.
        pass_number: how often the data set has been read through before.
        shard: number of the shard in the data set.
        row: number of the sample among those of the shard.
    """

    data_set: int
    pass_number: int
    shard: int
    row: int


class Order:
    """The order in which a training reads its data sets. Instances may be shared by threads.

    A mix: in every cycle of `CYCLE` positions each data set has a fixed number of slots, the largest remainders of its
    share of the weights, at least one where its weight is positive; they are permuted anew for every cycle.

    A data set: each pass lays its shards, permuted, in a line of N samples, and cuts the line into min(streams, N)
    streams of equal length (the first N mod streams are one longer). Streams take turns, in a new random order every
    time, or a data set of few samples would be read in one order again and again. Within a stream, each block of
    `block` samples is permuted. So a pass reads every sample once, the next pass goes on in the same batch, and a batch
    holds samples of as many places as there are streams; where there are fewer shards than streams, several streams
    read one shard.

    Args:
        counts: samples of every shard, by data set; shards may be empty.
        weights: share of every data set in the mix, up to a common factor; 0 leaves a data set out.
        seed: of the run.
        digests: of the content of every data set. Equal ones have equal orders, wherever the data is.
        streams: places of a data set that are read at a time.
        block: samples over which a stream is shuffled.

    Raises:
        ValueError: the arguments have different lengths, weights are negative or all 0, or a data set that is to be
            read has no samples.
    """

    def __init__(
        self,
        counts: Sequence[Sequence[int]],
        weights: Sequence[float],
        *,
        seed: int,
        digests: Sequence[str],
        streams: int = 64,
        block: int = 256,
    ) -> None:
        if not len(counts) == len(weights) == len(digests):
            raise ValueError(
                f"{len(counts)} counts, {len(weights)} weights and {len(digests)} digests; one each per data set"
            )
        if streams < 1 or block < 1:
            raise ValueError(f"streams is {streams} and block is {block}; both must be at least 1")
        self.slots = slots_of(weights)
        self._mix = _Mix(self.slots, seed, digests)
        self._passes = [
            _Passes(shards, seed, digest, streams, block)
            for shards, digest in zip(counts, digests, strict=True)
        ]
        for number, slots in enumerate(self.slots):
            if slots and not self._passes[number].samples:
                raise ValueError(f"data set {number} has no samples, and a weight of {weights[number]:g}")

    @property
    def samples(self) -> tuple[int, ...]:
        """Samples of every data set, which is the length of its passes."""
        return tuple(passes.samples for passes in self._passes)

    def at(self, position: int) -> Draw:
        """The sample at a position, counted from 0."""
        data_set, cursor = self._mix.at(position)
        return Draw(data_set, *self._passes[data_set].at(cursor))

    def read_before(self, position: int) -> tuple[int, ...]:
        """How many samples of every data set stand before a position, those of all passes together."""
        return self._mix.read_before(position)


def slots_of(weights: Sequence[float]) -> tuple[int, ...]:
    """Slots of every data set in a cycle, by the method of largest remainders (of equal ones, the first).

    Raises:
        ValueError: a weight is negative or not finite, all are 0, or more than `CYCLE` are positive.
    """
    if any(not 0 <= weight < float("inf") for weight in weights) or not any(weights):
        raise ValueError(
            f"weights are {list(weights)}; none may be negative, and at least one must be above 0"
        )
    if sum(weight > 0 for weight in weights) > CYCLE:
        raise ValueError(f"at most {CYCLE:,} data sets can be mixed")
    # In fractions: rounding must not depend on the order of a sum.
    total = sum(map(Fraction, weights))
    quotas = [Fraction(weight) * CYCLE / total for weight in weights]
    slots = [max(int(quota), 1) if quota else 0 for quota in quotas]
    while sum(slots) != CYCLE:
        step = 1 if sum(slots) < CYCLE else -1
        open_to = [number for number, held in enumerate(slots) if held > (1 if step < 0 else 0)]
        chosen = max(open_to, key=lambda number: (step * (quotas[number] - slots[number]), -number))
        slots[chosen] += step
    return tuple(slots)


class _Mix:
    """Which data set stands at a position, and how many of its samples stand before."""

    def __init__(self, slots: Sequence[int], seed: int, digests: Sequence[str]) -> None:
        self._slots = np.array(slots)
        self._seed = seed
        self._digest = blake2b("\n".join(digests).encode(), digest_size=16).hexdigest()
        self._alone = next((number for number, held in enumerate(slots) if held == CYCLE), None)
        self._cycle = lru_cache(_CYCLES_HELD)(self._permuted)

    def at(self, position: int) -> tuple[int, int]:
        """Number of the data set, and its cursor."""
        if self._alone is not None:
            return self._alone, position
        cycle, place = divmod(position, CYCLE)
        data_sets, ranks = self._cycle(cycle)
        data_set = int(data_sets[place])
        return data_set, cycle * int(self._slots[data_set]) + int(ranks[place])

    def read_before(self, position: int) -> tuple[int, ...]:
        cycle, place = divmod(position, CYCLE)
        begun = np.bincount(self._cycle(cycle)[0][:place], minlength=len(self._slots))
        return tuple((cycle * self._slots + begun).tolist())

    def _permuted(self, cycle: int) -> tuple[Integers, Integers]:
        """int64 [CYCLE]: the data set of every place, and how many places of the cycle it has before."""
        order = permutation(CYCLE, seed_for(self._seed, self._digest, "order/mix", cycle))
        data_sets = np.repeat(np.arange(len(self._slots)), self._slots)[order]
        ranks = np.empty(CYCLE, np.int64)
        for number, held in enumerate(self._slots):
            ranks[data_sets == number] = np.arange(held)
        return data_sets, ranks


class _Passes:
    """The passes of one data set; what is kept of them is a few permutations, however many samples there are."""

    def __init__(self, counts: Sequence[int], seed: int, digest: str, streams: int, block: int) -> None:
        self._counts = np.array(counts, np.int64)
        self.samples = int(self._counts.sum())
        self._streams = min(streams, self.samples)
        self._block = block
        self._seed, self._digest = seed, digest
        self._line = lru_cache(_PASSES_HELD)(self._shards_in_line)
        # All streams are in the same block, or in that one and the next.
        self._shuffled = lru_cache(2 * streams + 2)(self._permuted_block)
        self._turns = lru_cache(4)(self._permuted_turns)

    def at(self, cursor: int) -> tuple[int, int, int]:
        """Pass, shard and row of the sample that is read after `cursor` others."""
        pass_number, within = divmod(cursor, self.samples)
        offset, turn = divmod(within, self._streams)
        shortest, longer = divmod(self.samples, self._streams)
        stream = int(self._turns(pass_number, offset, self._streams if offset < shortest else longer)[turn])
        block, place = divmod(offset, self._block)
        length = min(self._block, shortest + (stream < longer) - block * self._block)
        first = stream * shortest + min(stream, longer) + block * self._block
        at = first + int(self._shuffled(pass_number, stream, block, length)[place])
        shards, starts = self._line(pass_number)
        # The last of the shards that begin there; those before it are empty.
        nearest = int(starts.searchsorted(at, side="right")) - 1
        return pass_number, int(shards[nearest]), at - int(starts[nearest])

    def _shards_in_line(self, pass_number: int) -> tuple[Integers, Integers]:
        """int64 [shards]: the shards in the order of a pass, and where in its line each begins."""
        shards = permutation(
            len(self._counts), seed_for(self._seed, self._digest, "order/shards", pass_number)
        )
        counts = self._counts[shards]
        return shards, np.cumsum(counts) - counts

    def _permuted_turns(self, pass_number: int, offset: int, streams: int) -> Integers:
        return permutation(streams, seed_for(self._seed, self._digest, f"order/turns/{offset}", pass_number))

    def _permuted_block(self, pass_number: int, stream: int, block: int, length: int) -> Integers:
        stage = f"order/block/{stream}/{block}"
        return permutation(length, seed_for(self._seed, self._digest, stage, pass_number))


def permutation(length: int, seed: int) -> Integers:
    """int64 [length]: a random order of the numbers below `length`.

    It sorts raw output of PCG64, which numpy promises never to change, as it does not of `Generator.permutation`
    (NEP 19): a training must go on in the same order after numpy was updated.
    """
    return np.argsort(np.random.PCG64(seed).random_raw(length), kind="stable")
