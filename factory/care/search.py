"""Finding an item by its key: in the plan's key column, one row group at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from difflib import SequenceMatcher, get_close_matches
from heapq import nlargest

import pyarrow as pa
import pyarrow.parquet as pq

from actors.errors import OutputError
from factory.plan import PATH, Plan
from factory.sources.reference import Reference

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
    """Finds an item. Neither the whole plan nor another column than the keys is in memory at once.

    Raises:
        OutputError: no item has this key; the message names the most similar ones.
    """
    seen = 0
    for shards, keys in _groups(plan):
        if key in keys and (place := _in_shard(plan, shards[keys.index(key)], key)):
            return place
        seen += len(keys)
    # What the first table of a plan does not hold, later ones may.
    for shard in range(plan.shards) if seen != plan.items else ():
        if place := _in_shard(plan, shard, key):
            return place
    raise OutputError(f"{plan.storage.url} has no item with the key {key!r}{_advice(plan, key)}")


def place_at(plan: Plan, row: int) -> Place:
    """The item in a row of the plan, counted from 0."""
    shard = 0
    while row >= plan.size(shard):
        row -= plan.size(shard)
        shard += 1
    return Place(shard, row, plan.shard(shard)[row])


def _in_shard(plan: Plan, shard: int, key: str) -> Place | None:
    items = plan.shard(shard)
    return next((Place(shard, row, item) for row, item in enumerate(items) if item.key == key), None)


def _groups(plan: Plan) -> Iterator[tuple[list[int], list[str]]]:
    """Shard numbers and keys of every row group."""
    with plan.storage.open(PATH) as stream:
        try:
            file = pq.ParquetFile(stream)
            for group in range(file.num_row_groups):
                table = file.read_row_group(group, columns=["shard", "key"])
                yield table["shard"].to_pylist(), table["key"].to_pylist()
        except (pa.ArrowException, OSError, ValueError, KeyError) as error:
            raise OutputError(f"{plan.storage.url}: {PATH} is damaged: {error}") from error


def _advice(plan: Plan, key: str) -> str:
    """`; did you mean ...`, or nothing where no key is similar."""
    near: list[str] = []
    compared = 0
    for _, keys in _groups(plan):
        near += [one for one in keys if key and key in one][:CLOSEST]
        if compared < MOST_COMPARED:
            near += get_close_matches(key, keys, CLOSEST)
            compared += len(keys)
    best = nlargest(CLOSEST, sorted(set(near)), lambda one: SequenceMatcher(None, key, one).ratio())
    return (
        f"; did you mean {' or '.join(map(repr, best))}?" if best else "; flawforge status shows what it has"
    )
