"""Runs that stop (SIGSTOP) at a chosen change of their output, as on a machine that is suspended there.

The stages run in the process itself, without Ray and without a model: the image is taken for its own corruption.
Items whose keys end in 5 are rejected.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow as pa

from factory.store.storage import Storage

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
    """

    process: subprocess.Popen[str]

    def go_on(self) -> str:
        """Wakes the run, and returns what it ended with: the name of its error, or `done`."""
        self.process.send_signal(signal.SIGCONT)
        printed, _ = self.process.communicate(timeout=300)
        return printed.strip().rpartition("\n")[2]


def paused(call: str, path: str, command: str) -> Paused:
    """Starts `command`, a line of Python, and waits until it stops before `call` changes `path`."""
    code = f"""
from tests.factory.output.pausing import *
from pathlib import Path
from factory.build import Mode, build
from factory.maintain.merge import merge
from factory.output.rebuild import rebuild
from factory.maintain.retry_rejects import retry_rejects
from factory.maintain.split import split
from actors.errors import FlawforgeError
without_ray(lambda target, key, value: target.__setitem__(key, value), setattr)
stop_at({call!r}, {path!r})
try:
    {command}
    print("done")
except FlawforgeError as error:
    print(type(error).__name__)
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    _, status = os.waitpid(process.pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status), f"it ended before it came to {call} {path}: {process.communicate()}"
    return Paused(process)
