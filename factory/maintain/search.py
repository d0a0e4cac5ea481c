"""Finding an item by its key: in the plan's key column, one row group at a time."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import SequenceMatcher, get_close_matches
from heapq import nlargest
from itertools import chain

from actors.errors import OutputError
from factory.output.plan import Plan
from factory.output.reference import Reference

CLOSEST = 3
"""Keys that an error about an unknown one suggests."""

MOST_COMPARED = 200_000
"""Keys that are compared with an unknown one; a comparison takes some microseconds."""


@dataclass(frozen=True)
class Place:
    """Where the plan has an item.

    Attributes:
        shard: number of its shard.
        row: its place in the shard.
        reference: its row of the plan.
    """

    shard: int
    row: int
    reference: Reference


def find(plan: Plan, key: str) -> Place:
    """Finds an item; one that was tried again, where it was tried last.

    Neither the whole plan nor another column than the keys is in memory at once.

    Raises:
        OutputError: no item has this key; the message names the most similar ones.
    """
    for version in reversed(plan.versions):
        for shards, keys in plan.keys(version):
            if key in keys:
                number = shards[keys.index(key)]
                items = plan.shard(number)
                return next(Place(number, row, item) for row, item in enumerate(items) if item.key == key)
    raise OutputError(f"{plan.storage.url} has no item with the key {key!r}{_advice(plan, key)}")


def place_at(plan: Plan, row: int) -> Place:
    """The item in a row of the plan, counted from 0."""
    shard = 0
    while row >= plan.size(shard):
        row -= plan.size(shard)
        shard += 1
    return Place(shard, row, plan.shard(shard)[row])


def _advice(plan: Plan, key: str) -> str:
    """`; did you mean ...`, or nothing where no key is similar."""
    near: list[str] = []
    compared = 0
    for _, keys in chain.from_iterable(plan.keys(version) for version in plan.versions):
        near += [one for one in keys if key and key in one][:CLOSEST]
        if compared < MOST_COMPARED:
            near += get_close_matches(key, keys, CLOSEST)
            compared += len(keys)
    best = nlargest(CLOSEST, sorted(set(near)), lambda one: SequenceMatcher(None, key, one).ratio())
    return (
        f"; did you mean {' or '.join(map(repr, best))}?" if best else "; flawforge status shows what it has"
    )
