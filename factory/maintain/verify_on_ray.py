"""Checks shards on the workers of a Ray cluster. What comes back is verdicts: the driver holds no shard."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from factory.maintain.verify import ShardVerdict, check_shard
from factory.output.plan import read_plan
from factory.output.provenance import parts_of
from factory.pipeline.workers import on_workers
from factory.store.storage import Storage


def check_shards(url: str, numbers: Sequence[int], address: str) -> Iterator[ShardVerdict]:
    """Yields the verdict on every shard, in the order of the numbers. Each shard is a task of one CPU.

    Args:
        url: the output, at a place that every worker can read.
        numbers: of published shards.
        address: of the cluster, or `local` to start one here.

    Raises:
        BuildError: there is no such cluster, or its workers cannot read the output.
    """
    return on_workers(_check, ((url, number) for number in numbers), address, f"check a shard of {url}")


def _check(url: str, number: int) -> ShardVerdict:
    storage = Storage(url)
    plan = read_plan(storage)
    return check_shard(storage, plan, parts_of(storage, plan), number)
