"""Checks shards on the workers of a Ray cluster. What comes back is verdicts: the driver holds no shard."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence

import ray
from ray.exceptions import RayError, RayTaskError

from actors.errors import BuildError, FlawforgeError
from factory.care.parts import identity_of
from factory.pipeline import connect
from factory.plan import read_plan
from factory.shards.check import ShardVerdict, check_shard
from factory.storage import Storage

_UNDER_WAY_PER_CPU = 2


def check_shards(url: str, numbers: Sequence[int], address: str) -> Iterator[ShardVerdict]:
    """Yields the verdict on every shard, in the order of the numbers. Each shard is a task of one CPU.

    Args:
        url: the output, at a place that every worker can read.
        numbers: of published shards.
        address: of the cluster, or `local` to start one here.

    Raises:
        BuildError: there is no such cluster, or its workers cannot read the output.
    """
    connect(address)
    task = ray.remote(num_cpus=1, max_retries=3, retry_exceptions=[OSError])(_check)
    most = max(1, int(ray.cluster_resources().get("CPU", 1))) * _UNDER_WAY_PER_CPU
    waiting, under_way = deque(numbers), deque[ray.ObjectRef[ShardVerdict]]()
    while waiting or under_way:
        while waiting and len(under_way) < most:
            under_way.append(task.remote(url, waiting.popleft()))
        yield _result(under_way.popleft(), url)


def _check(url: str, number: int) -> ShardVerdict:
    storage = Storage(url)
    plan = read_plan(storage)
    return check_shard(storage, plan, identity_of(storage, plan), number)


def _result(under_way: ray.ObjectRef[ShardVerdict], url: str) -> ShardVerdict:
    try:
        verdict: ShardVerdict = ray.get(under_way)
        return verdict
    except RayTaskError as error:
        cause = error.cause
        what = cause if isinstance(cause, FlawforgeError) else f"{type(cause).__name__}: {cause}"
        raise BuildError(
            f"a worker could not check a shard of {url}: {what}; every node of the cluster must be able to read it"
        ) from error
    except RayError as error:
        raise BuildError(f"Ray gave up: {error}") from error
