"""Runs that stop (SIGSTOP) at a chosen change of their output, as on a machine that is suspended there.

The stages run in the process itself, without Ray and without a model: the image is taken for its own corruption.
Items whose keys end in 5 are rejected.
"""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import ModuleType
from typing import Any

import psutil
import pyarrow as pa

from actors.errors import FlawforgeError
from factory.store.storage import Storage
from tests.forked import CONTEXT
from tests.patience import seconds

RECIPE = """
name: NAME
source: {kind: tinytown, size: 64, limit: LIMIT, first_seed: FIRST}
regions: {kind: source}
corruption: {method: blur, target: image}
output: {samples_per_shard: 3}
seed: SEED
"""

HEARTBEAT, PATIENCE = 0.05, 0.4
"""Of the lock, for these runs."""

CALLS = {"link": (os, "link", 1), "rename": (Path, "rename", 0), "replace": (Path, "replace", 1)}
CALLS["publish"] = (Storage, "publish", 1)
"""By name, a call, and which of its arguments is the path that changes. `publish` comes before the look at the lock,
the others after it."""


def recipe_of(seed: int, limit: int = 8, first_seed: int = 7000) -> Any:
    """Shards of three samples; another seed is another recipe."""
    from factory.recipe.recipe import parse_recipe

    text = RECIPE.replace("SEED", str(seed)).replace("LIMIT", str(limit)).replace("NAME", f"seed-{seed}")
    text = text.replace("FIRST", str(first_seed))
    return parse_recipe(text, "paused.yaml")


def without_ray(
    setitem: Callable[[Any, Any, Any], None], setattribute: Callable[[Any, str, Any], None]
) -> None:
    """Puts the stages of this process in the place of the pipeline, and shortens the lock's patience."""
    from actors.errors import Reject
    from factory.output import lock
    from factory.pipeline import stages
    from tests.factory.maintain.outputs import measured

    def work(samples: list[Any]) -> list[Any]:
        for sample in samples:
            if not sample.rejected:
                sample.corrupted, sample.changed = sample.image, sample.mask
                sample.attempts, sample.verified, sample.metrics = 1, True, measured(sample.mask)
            if sample.key.endswith("5"):
                sample.reject("verify", Reject("odd", "its key ends so"))
        return samples

    def run_shards(recipe: Any, url: str, identity: Any, todo: Sequence[int], run: str) -> Iterator[int]:
        made = (stages.Load, stages.SelectRegions, stages.Corrupt, stages.Write)
        calls = [stage(recipe, url, identity, run) for stage in made]
        for number in todo:
            table = pa.table({"shard": [number]})
            for call in calls:
                table = call(table)
            yield number

    pipeline: Any = ModuleType("factory.pipeline.pipeline")
    pipeline.run_shards = run_shards
    cluster: Any = ModuleType("factory.pipeline.cluster")
    cluster.connect = lambda address: None
    cluster.check_resources = lambda pools, patience: {}
    setitem(sys.modules, "factory.pipeline.pipeline", pipeline)
    setitem(sys.modules, "factory.pipeline.cluster", cluster)
    setattribute(stages.Corrupt, "make", lambda self: work)
    setattribute(lock, "HEARTBEAT", HEARTBEAT)
    setattribute(lock, "PATIENCE", PATIENCE)


def stop_at(call: str, path: str) -> None:
    """Stops this process before the first such call whose path ends like `path`, a regular expression."""
    owner, name, place = CALLS[call]
    original, left = getattr(owner, name), [1]

    def stopping(*arguments: Any, **keywords: Any) -> Any:
        if left and re.search(rf"(^|/){path}$", str(arguments[place])):
            left.clear()
            os.kill(os.getpid(), signal.SIGSTOP)
        return original(*arguments, **keywords)

    setattr(owner, name, stopping)


@dataclass
class Paused:
    """A run that has stopped.

    Attributes:
        process: of it.
        end: where it tells how it ended.
    """

    process: BaseProcess
    end: Connection

    def go_on(self) -> str:
        """Wakes the run, and returns what it ended with: the name of its error, or `done`."""
        assert self.process.pid is not None
        os.kill(self.process.pid, signal.SIGCONT)
        assert self.end.poll(seconds(300)), "it does not end"
        told: str = self.end.recv()
        self.process.join()
        return told


def paused(call: str, path: str, command: str) -> Paused:
    """Starts `command`, a line of Python, and waits until it stops before `call` changes `path`."""
    here, there = CONTEXT.Pipe(duplex=False)
    process = CONTEXT.Process(target=_run, args=(call, path, command, there))
    process.start()
    there.close()
    watched = psutil.Process(process.pid)
    while watched.status() != psutil.STATUS_STOPPED:
        assert not here.poll(0.002), f"it ended before it came to {call} {path}: {here.recv()}"
    return Paused(process, here)


def _run(call: str, path: str, command: str, end: Connection) -> None:
    from factory.build import Mode, build
    from factory.maintain.merge import merge
    from factory.maintain.retry_rejects import retry_rejects
    from factory.maintain.split import split
    from factory.output.rebuild import rebuild

    names = {
        one.__name__: one for one in (build, merge, rebuild, recipe_of, retry_rejects, split, Mode, Storage)
    }
    without_ray(lambda target, key, value: target.__setitem__(key, value), setattr)
    stop_at(call, path)
    try:
        exec(command, names)
    except FlawforgeError as error:
        end.send(type(error).__name__)
    except BaseException as error:
        end.send(repr(error))
    else:
        end.send("done")
