"""Work outside the pipeline on the workers of a Ray cluster: a task for each piece, results in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import ray
from ray.exceptions import RayError, RayTaskError

from actors.errors import BuildError, FlawforgeError
from factory.pipeline.cluster import connect

Result = TypeVar("Result")

_UNDER_WAY_PER_CPU = 2


def on_workers(
    work: Callable[..., Result], pieces: Iterable[tuple[Any, ...]], address: str, what: str
) -> Iterator[Result]:
    """`itertools.starmap` on a cluster, with a few pieces under way for every CPU.

    Args:
        work: what a task of one CPU does. What it raises as OSError is tried again.
        pieces: arguments of the tasks.
        address: as for `connect`.
        what: in words, for messages: "a worker could not ...".

    Raises:
        BuildError: there is no such cluster, or a task failed.
    """
    connect(address)
    task = ray.remote(num_cpus=1, max_retries=3, retry_exceptions=[OSError])(work)
    most = max(1, int(ray.cluster_resources().get("CPU", 1))) * _UNDER_WAY_PER_CPU
    waiting, under_way = iter(pieces), deque[Any]()
    for arguments in waiting:
        under_way.append(task.remote(*arguments))
        if len(under_way) == most:
            yield _result(under_way.popleft(), what)
    while under_way:
        yield _result(under_way.popleft(), what)


def _result(under_way: Any, what: str) -> Any:
    try:
        return ray.get(under_way)
    except RayTaskError as error:
        cause = error.cause
        why = cause if isinstance(cause, FlawforgeError) else f"{type(cause).__name__}: {cause}"
        raise BuildError(
            f"a worker could not {what}: {why}; every node of the cluster must be able to read it"
        ) from error
    except RayError as error:
        raise BuildError(f"Ray gave up: {error}") from error
