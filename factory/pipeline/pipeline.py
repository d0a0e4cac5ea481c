"""The pipeline on Ray Data. One row is one shard from the plan to the writer; a row is never split or merged."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import ray
from ray.data import ActorPoolStrategy, DataContext, Dataset
from ray.exceptions import RayError, RayTaskError
from ray.util.annotations import RayDeprecationWarning

from actors.errors import BuildError, FlawforgeError
from actors.stage_names import StageName
from factory.output.identity import Identity
from factory.pipeline.stages import Corrupt, Load, SelectRegions, Write
from factory.recipe.recipe import Pool, Recipe

_RETRIES = 10
"""Of a shard at one stage. Ray spends them on the seconds between a node's end and its notice of it, too: at pauses of
0.1 s, 0.2 s, 0.4 s and so on. Three were over after 0.7 s, and everything in flight was lost with the pass."""


Stages = Mapping[StageName, Callable[..., Any]]
"""The classes of a pipeline, in its order. Each takes a table of one shard, and returns one."""


def run_shards(
    recipe: Recipe, url: str, identity: Identity, todo: Sequence[int], run: str = ""
) -> Iterator[int]:
    """Makes shards: the figure of the paper, read from top to bottom. See `run_stages`.

    Args:
        run: holds the lock of the output; see `factory.store.fence`.
    """
    stages: Stages = {
        StageName.LOAD: Load,
        StageName.SELECT: SelectRegions,
        StageName.CORRUPT: Corrupt,
        StageName.WRITE: Write,
    }
    return run_stages(stages, recipe.execution.pools, (recipe, url, identity, run), todo)


def run_stages(
    stages: Stages, pools: Mapping[StageName, Pool], arguments: tuple[Any, ...], todo: Sequence[int]
) -> Iterator[int]:
    """Run shards through the stages, in roughly the given order, and yield the number of each when it is published.

    Args:
        stages: the last one returns a table with the column `shard`.
        pools: the workers of each stage.
        arguments: of every stage's constructor; pickled once per worker.
        todo: numbers of the shards.

    Raises:
        FlawforgeError: what a stage raised for the user.
        BuildError: anything else that a stage raised.
    """
    quieten()
    with warnings.catch_warnings():
        # Until 2.64 Ray has no other place for the bounds on restarts; the version is pinned below that.
        warnings.simplefilter("ignore", RayDeprecationWarning)
        written = _pipeline(stages, pools, arguments, todo)
    with errors_explained():
        # Without prefetch: otherwise a shard is reported only once the next one is finished.
        for batch in written.iter_batches(batch_size=None, prefetch_batches=0, batch_format="pyarrow"):
            yield from batch["shard"].to_pylist()


@contextlib.contextmanager
def errors_explained() -> Iterator[None]:
    """Turns what ends a pipeline of Ray Data into errors for the user.

    Raises:
        FlawforgeError: what a stage raised for the user.
        BuildError: anything else that a stage raised.
    """
    try:
        yield
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


def _pipeline(
    stages: Stages, pools: Mapping[StageName, Pool], arguments: tuple[Any, ...], todo: Sequence[int]
) -> Dataset:
    shards = ray.data.from_items([{"shard": number} for number in todo], override_num_blocks=len(todo))
    for name, stage in stages.items():
        shards = shards.map_batches(
            stage, fn_constructor_args=arguments, **pool_options(pools[name], len(todo))
        )
    return shards


def pool_options(pool: Pool, shards: int) -> dict[str, Any]:
    """Arguments of `map_batches` for a pool: one shard per call, never merged; no more workers than shards.

    A lost actor is made anew, but a shard that has cost `_RETRIES` of them fails the pass, so that control comes back
    to the outer loop: Ray's own default is to try for ever.
    """
    return {
        "batch_size": 1,
        "batch_format": "pyarrow",
        "compute": ActorPoolStrategy(min_size=min(pool.smallest, shards), max_size=min(pool.largest, shards)),
        "num_cpus": pool.cpus,
        "num_gpus": pool.gpus,
        "memory": pool.memory,
        "max_restarts": -1,
        "max_task_retries": _RETRIES,
    }


def quieten() -> None:
    """Keeps Ray Data's progress bars and warnings off the terminal."""
    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    # Otherwise every error of a stage arrives as "UDF failed to process a data block".
    context.raise_original_map_exception = True
    logging.getLogger("ray.data").setLevel(logging.ERROR)
