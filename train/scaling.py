"""How many workers Ray Train starts, and when it resizes an elastic training.

Ray counts what the nodes have, whoever uses it, and lists the nodes every 20 seconds. So it may wait for workers whose
node has just been lost, which ends with a time-out and another look, and for workers whose CPUs somebody else uses,
which ends the attempt: the next one asks for what is free.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from train.execution import Workers

if TYPE_CHECKING:
    from ray.train import FailureConfig, ScalingConfig

_BARRIERS = "RAY_TRAIN_COLLECTIVE_TIMEOUT_S"
_PLACEMENT = "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S"

_PLACEMENT_SECONDS = 20
"""Seconds that an elastic training waits for the resources of all workers that Ray counts on; Ray's default is 60."""


NO_ROOM = (
    "the workers did not get their CPUs and GPUs in time, since other work uses them or nodes were lost: wait until "
    "they are free, or lower execution.workers"
)


def scaling_of(execution: Workers, most: int) -> ScalingConfig:
    """What Ray Train is asked for.

    Args:
        execution: of the recipe.
        most: workers of an elastic training; at least its fewest.
    """
    from ray.train import ScalingConfig

    return ScalingConfig(
        num_workers=(execution.fewest, most) if execution.elastic else execution.most,
        elastic_resize_monitor_interval_s=execution.resize_every,
        use_gpu=bool(execution.gpus),
        resources_per_worker=_resources(execution),
    )


def failures_of(execution: Workers) -> FailureConfig:
    """Lost workers end the attempt, and so does the second time that an elastic training waited in vain for room."""
    from ray.train import FailureConfig

    return FailureConfig(max_failures=0, controller_failure_limit=1 if execution.elastic else -1)


def is_lack_of_room(error: Exception) -> bool:
    """Whether an attempt ended because the workers did not get their resources in time."""
    from ray.train.v2._internal.exceptions import WorkerGroupStartupTimeoutError

    return isinstance(getattr(error, "controller_failure", None), WorkerGroupStartupTimeoutError)


def free_workers(execution: Workers) -> int:
    """Number of workers for which the cluster has room now, within the bounds of the recipe."""
    import ray

    free = ray.available_resources()
    room = min(int(free.get(name, 0.0) / need) for name, need in _resources(execution).items())
    return min(max(room, execution.fewest), execution.most)


@contextmanager
def time_outs(execution: Workers) -> Iterator[None]:
    """Set the variables of Ray Train's time-outs, but for those that the user has set.

    Its own barriers (`report`, `get_preemption_info`) wait without end otherwise.
    """
    wanted = {_BARRIERS: str(execution.time_out)}
    if execution.elastic:
        wanted[_PLACEMENT] = str(_PLACEMENT_SECONDS)
    new = {name: value for name, value in wanted.items() if name not in os.environ}
    os.environ.update(new)
    try:
        yield
    finally:
        for name in new:
            del os.environ[name]


def _resources(execution: Workers) -> dict[str, float]:
    return {"CPU": execution.cpus, **({"GPU": execution.gpus} if execution.gpus else {})}
