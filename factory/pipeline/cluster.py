"""A Ray cluster: joining or starting one, and checking that it has room for a set of worker pools."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import ray
from ray.autoscaler.sdk import request_resources

from actors.errors import BuildError
from actors.stage_names import StageName
from factory.recipe.sections import Pool

log = logging.getLogger(__name__)

_POLL = 2.0
"""Seconds between two checks of a cluster that grows."""


def connect(address: str) -> None:
    """Joins a Ray cluster, or starts one here for `local`. A cluster that is already joined is kept."""
    if ray.is_initialized():
        return
    with _core_silenced():
        if address == "local":
            try:
                ray.init(address="local", include_dashboard=False, logging_level="error", log_to_driver=False)
            except Exception as error:  # Ray raises it as it is, for instance where the machine is too busy
                raise BuildError(f"Ray could not be started on this machine: {error}") from error
            return
        try:
            ray.init(address=address, logging_level="warning", log_to_driver=False)
        except ConnectionError as error:
            raise BuildError(f"no Ray cluster answers at {address!r}: {error}") from error


@contextlib.contextmanager
def _core_silenced() -> Iterator[None]:
    """Keeps messages of Ray's C++ core off the driver's terminal; what ends a run arrives as a Python exception.

    At every start of a pool it prints an error that concerns Ray Data alone (ray-project/ray issue 53727). The level
    below which it is silent is read from the environment while Ray starts, which in turn is announced on stderr.
    A level that the user has set is kept.
    """
    if "RAY_BACKEND_LOG_LEVEL" in os.environ:
        yield
        return
    os.environ["RAY_BACKEND_LOG_LEVEL"] = "fatal"
    sys.stderr.flush()
    stderr = os.dup(2)
    with Path(os.devnull).open("wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        del os.environ["RAY_BACKEND_LOG_LEVEL"]


def check_resources(
    pools: Mapping[StageName, Pool] | Mapping[str, Pool], patience: float = 0.0, *, section: str = "execution"
) -> dict[str, float]:
    """Check that the cluster has room for the smallest size of all pools together.

    Ray itself would wait forever, with a warning after a minute.

    Args:
        pools: by name, such as that of a stage.
        patience: seconds that a cluster may take to grow; its autoscaler, if it has one, gets a request for the pools.
        section: of the recipe that the pools come from, for the message.

    Returns:
        The resources of the cluster, as Ray names them: `CPU`, `GPU`, `memory` and others.

    Raises:
        BuildError: the cluster is too small.
    """
    deadline = time.monotonic() + patience
    requested = False
    try:
        while (lack := _lack(pools, section)) and time.monotonic() < deadline:
            if not requested:
                log.warning("waiting up to %g s for workers: %s", patience, lack)
                request_resources(bundles=_bundles(pools))
                requested = True
            time.sleep(_POLL)
    finally:
        if requested:
            # A request stands until it is replaced, and would keep idle nodes alive after the build.
            request_resources(bundles=[])
    if lack:
        raise BuildError(lack)
    return dict(ray.cluster_resources())


def _lack(pools: Mapping[StageName, Pool] | Mapping[str, Pool], section: str) -> str:
    """What the smallest pools need beyond what the cluster has, in words; empty if there is enough."""
    available = ray.cluster_resources()
    cpus = sum(pool.cpus * pool.smallest for pool in pools.values())
    gpus = sum(pool.gpus * pool.smallest for pool in pools.values())
    for name, needed in (("CPU", cpus), ("GPU", gpus)):
        if needed > available.get(name, 0.0):
            each = ", ".join(
                f"{stage} {pool.smallest} x {pool.cpus if name == 'CPU' else pool.gpus:g}"
                for stage, pool in pools.items()
            )
            return (
                f"the smallest pools require {needed:g} {name}s ({each}), the cluster has "
                f"{available.get(name, 0.0):g}: lower {section}.*.{name.lower()}s or {section}.*.smallest, "
                f"or set {section}.patience if the cluster can grow"
            )
    return ""


def _bundles(pools: Mapping[StageName, Pool] | Mapping[str, Pool]) -> list[dict[str, float]]:
    return [
        {name: amount for name, amount in (("CPU", pool.cpus), ("GPU", pool.gpus)) if amount}
        for pool in pools.values()
        for _ in range(pool.smallest)
    ]
