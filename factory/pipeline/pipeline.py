"""The pipeline on Ray Data. One row is one shard from the plan to the writer; a row is never split or merged."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import ray
from ray.autoscaler.sdk import request_resources
from ray.data import ActorPoolStrategy, DataContext, Dataset
from ray.exceptions import RayError, RayTaskError
from ray.util.annotations import RayDeprecationWarning

from actors.errors import BuildError, FlawforgeError
from factory.output.identity import Identity
from factory.pipeline.stages import Corrupt, Load, SelectRegions, Write
from factory.recipe.recipe import Recipe, Stage

log = logging.getLogger(__name__)

_RETRIES = 10
"""Of a shard at one stage. Ray spends them on the seconds between a node's end and its notice of it, too: at pauses of
0.1 s, 0.2 s, 0.4 s and so on. Three were over after 0.7 s, and everything in flight was lost with the pass."""

_LOOK_AGAIN = 2.0
"""Seconds between two looks at a cluster that grows."""


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


def check_resources(recipe: Recipe, patience: float = 0.0) -> dict[str, float]:
    """Raises BuildError when the smallest pools together ask for more than the cluster has.

    Ray itself would wait for ever, with a warning after a minute.

    Args:
        recipe: what is to be run.
        patience: seconds that a cluster may take to grow. Its autoscaler, if it has one, is asked for the pools.

    Returns:
        What the cluster has, as Ray names it: `CPU`, `GPU`, `memory` and others.
    """
    stages = _stages(recipe)
    deadline = time.monotonic() + patience
    asked = False
    try:
        while (lack := _lack(stages)) and time.monotonic() < deadline:
            if not asked:
                log.warning("waiting up to %g s for workers: %s", patience, lack)
                request_resources(bundles=_bundles(stages))
                asked = True
            time.sleep(_LOOK_AGAIN)
    finally:
        if asked:
            # A request stands until it is replaced, and would keep idle nodes alive after the build.
            request_resources(bundles=[])
    if lack:
        raise BuildError(lack)
    return dict(ray.cluster_resources())


def _lack(stages: Mapping[str, Stage]) -> str:
    """What the smallest pools ask for and the cluster does not have, in words; empty if there is enough."""
    there = ray.cluster_resources()
    cpus = sum(stage.cpus * stage.smallest for stage in stages.values())
    gpus = sum(stage.gpus * stage.smallest for stage in stages.values())
    for name, wanted in (("CPU", cpus), ("GPU", gpus)):
        if wanted > there.get(name, 0.0):
            asked = ", ".join(
                f"{key} {stage.smallest} x {stage.cpus if name == 'CPU' else stage.gpus:g}"
                for key, stage in stages.items()
            )
            return (
                f"the smallest pools ask for {wanted:g} {name}s ({asked}), the cluster has "
                f"{there.get(name, 0.0):g}: lower execution.*.{name.lower()}s or execution.*.smallest, "
                "or set execution.patience where the cluster grows when asked"
            )
    return ""


def _bundles(stages: Mapping[str, Stage]) -> list[dict[str, float]]:
    return [
        {name: amount for name, amount in (("CPU", stage.cpus), ("GPU", stage.gpus)) if amount}
        for stage in stages.values()
        for _ in range(stage.smallest)
    ]


def run_shards(
    recipe: Recipe, url: str, identity: Identity, todo: Sequence[int], run: str = ""
) -> Iterator[int]:
    """Makes shards, in roughly the given order, and yields the number of each when it is published.

    Args:
        run: holds the lock of the output; see `factory.store.fence`.

    Raises:
        FlawforgeError: what a stage raised for the user.
        BuildError: anything else that a stage raised.
    """
    _quieten()
    with warnings.catch_warnings():
        # Until 2.64 Ray has no other place for the bounds on restarts; the version is pinned below that.
        warnings.simplefilter("ignore", RayDeprecationWarning)
        written = _pipeline(recipe, url, identity, todo, run)
    try:
        # Without any prefetch: otherwise a shard is told only when the next one is there.
        for batch in written.iter_batches(batch_size=None, prefetch_batches=0, batch_format="pyarrow"):
            yield from batch["shard"].to_pylist()
    except RayTaskError as error:
        cause = error.cause
        if isinstance(cause, FlawforgeError):
            raise cause from None
        raise BuildError(f"a stage failed: {type(cause).__name__}: {cause}") from error
    except RayError as error:
        raise BuildError(f"Ray gave up: {error}") from error
    except FlawforgeError:
        raise
    except Exception as error:  # with raise_original_map_exception, whatever a stage raised
        raise BuildError(f"a stage failed: {type(error).__name__}: {error}") from error


def _pipeline(recipe: Recipe, url: str, identity: Identity, todo: Sequence[int], run: str) -> Dataset:
    """The figure of the paper, read from top to bottom."""
    pools = {name: _resources(stage, len(todo)) for name, stage in _stages(recipe).items()}
    shards = ray.data.from_items([{"shard": number} for number in todo], override_num_blocks=len(todo))
    arguments = (recipe, url, identity, run)
    loaded = shards.map_batches(Load, fn_constructor_args=arguments, **pools["load"])
    regions = loaded.map_batches(SelectRegions, fn_constructor_args=arguments, **pools["select"])
    corrupted = regions.map_batches(Corrupt, fn_constructor_args=arguments, **pools["corrupt"])
    return corrupted.map_batches(Write, fn_constructor_args=arguments, **pools["write"])


def _stages(recipe: Recipe) -> dict[str, Stage]:
    execution = recipe.execution
    return {
        "load": execution.load,
        "select": execution.select,
        "corrupt": execution.corrupt,
        "write": execution.write,
    }


def _resources(stage: Stage, shards: int) -> dict[str, Any]:
    """One shard per call, never merged; no more workers than shards.

    A lost actor is made anew, but a shard that has cost `_RETRIES` of them fails the pass, so that control comes back
    to the outer loop: Ray's own default is to try for ever.
    """
    return {
        "batch_size": 1,
        "batch_format": "pyarrow",
        "compute": ActorPoolStrategy(
            min_size=min(stage.smallest, shards), max_size=min(stage.largest, shards)
        ),
        "num_cpus": stage.cpus,
        "num_gpus": stage.gpus,
        "memory": stage.memory,
        "max_restarts": -1,
        "max_task_retries": _RETRIES,
    }


def _quieten() -> None:
    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    # Otherwise every error of a stage arrives as "UDF failed to process a data block".
    context.raise_original_map_exception = True
    logging.getLogger("ray.data").setLevel(logging.ERROR)
