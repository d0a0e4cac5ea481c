"""Kills trainings and compares the losses of what goes on: `benchmarks.faults --only training`.

Four trainings of one recipe, in float64, with frozen batch norms and without stochastic depth: one that is left alone;
one whose worker gets a SIGKILL at a random moment; one whose job, driver and Ray with it, gets one and is started again;
and one that is started again with another number of workers. The losses must be those of the first to 1e-8, and in the
surviving history (lines past a checkpoint are dropped) no sample may be read twice within a pass of its data set, and
none be missed.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

from factory.store.storage import Storage
from train import progress

RECIPE = """\
name: faults
kind: detector
iterations: 200
batch: 8
data:
  - {name: labelled, url: tinytown/labelled, weight: 3}
  - {name: others, url: tinytown/validation, weight: 1}
model: {checkpoint: tinytown/segmenter-convnext, batch_norm: frozen, drop_path: 0.0}
augmentation: {crop: 48}
optimizer: {learning_rate: 3.0e-4, warm_up: 10}
precision: float64
execution: {micro_batch: 4, save_every: 20, log_samples: true, cpus: 0.5}
"""
BOUND = 1e-8
LIMIT = 1800.0
"""Seconds after which the program gives up on a training."""

WORKER = "RayTrainWorker"
"""In the title of a worker's process."""


@dataclass(frozen=True)
class Result:
    """A training with a fault.

    Attributes:
        name: of the fault.
        killed_at: steps that were done when it was killed, as far as the progress told; None where nothing was killed.
        resumed_at: the checkpoint from which it went on.
        difference: largest difference of a loss from the training that was left alone.
        problems: what is wrong with the samples of its history.
    """

    name: str
    killed_at: int | None
    resumed_at: int | None
    difference: float
    problems: tuple[str, ...]

    @property
    def sound(self) -> bool:
        return self.difference <= BOUND and not self.problems


def start(recipe: Path, out: Path, workers: int) -> subprocess.Popen[bytes]:
    """Start `flawforge train` with a Ray of its own, in a session of its own; its output goes to `OUT.txt`."""
    command = [sys.executable, "-m", "flawforge", "train", str(recipe), "--out", str(out), "--workers", str(workers)]
    with Path(f"{out}.txt").open("ab") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)


def finish(run: subprocess.Popen[bytes], out: Path) -> None:
    """Wait for a training, which must end well."""
    if run.wait(LIMIT):
        raise SystemExit(f"{out} ended with {run.returncode}:\n{Path(f'{out}.txt').read_text()[-3000:]}")


def wait_for_step(run: subprocess.Popen[bytes], out: Path, step: int) -> int:
    """Wait until a training has done so many steps; returns the steps that it had done."""
    deadline = time.monotonic() + LIMIT
    storage = Storage(str(out))
    while time.monotonic() < deadline:
        found = progress.read(storage)
        if found is not None and found.step >= step:
            return found.step
        if run.poll() is not None:
            raise SystemExit(f"{out} ended before step {step}:\n{Path(f'{out}.txt').read_text()[-3000:]}")
        time.sleep(0.05)
    raise SystemExit(f"{out}: step {step} did not come within {LIMIT:.0f} s")


def kill_worker(run: subprocess.Popen[bytes], chance: random.Random) -> None:
    """SIGKILL to one of a training's workers."""
    workers = [one for one in psutil.Process(run.pid).children(recursive=True) if WORKER in _title(one)]
    os.kill(chance.choice(workers).pid, signal.SIGKILL)


def kill_job(run: subprocess.Popen[bytes]) -> None:
    """SIGKILL to a training's driver and to everything that it has started."""
    everything = [*psutil.Process(run.pid).children(recursive=True), psutil.Process(run.pid)]
    for one in everything:
        one.kill()
    psutil.wait_procs(everything, timeout=60)
    run.wait()


def losses(out: Path) -> list[float]:
    """The loss of every step in the surviving history."""
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, len(lines) + 1))
    return [float(line["loss"]) for line in lines]


def problems_of(out: Path, sizes: dict[str, int], steps: int, batch: int) -> tuple[str, ...]:
    """What is wrong with the samples of a history: slots that come twice or never, samples that repeat in a pass."""
    rows = [json.loads(line) for line in (out / "samples.jsonl").read_text().splitlines()]
    rows.sort(key=lambda row: (row["step"], row["slot"]))
    found = []
    if [(row["step"], row["slot"]) for row in rows] != [(s, i) for s in range(steps) for i in range(batch)]:
        found.append("slots are missing, or there twice")
    for name, size in sizes.items():
        keys = [row["key"] for row in rows if row["data"] == name]
        for first in range(0, len(keys), size):
            part = keys[first : first + size]
            most = Counter(part).most_common(1)[0][1]
            if most > 1 or (len(part) == size and len(set(part)) < size):
                found.append(f"{name}: pass {first // size} reads a sample {most} times")
    return tuple(found)


def faulty_trainings(
    folder: Path, *, seed: int, recipe: str = RECIPE, steps: int = 200, sizes: dict[str, int] | None = None
) -> list[Result]:
    """Run the four trainings, one after the other; the first of the results is that of the undisturbed one.

    Args:
        folder: for the recipe and the outputs.
        seed: of the moments of the kills.
        recipe: of the training.
        steps: its iterations.
        sizes: samples of its data sets by name.
    """
    chance = random.Random(seed)
    file = folder / "recipe.yaml"
    file.write_text(recipe)
    sizes = sizes or {"labelled": 100, "others": 300}
    alone = folder / "alone"
    finish(start(file, alone, 1), alone)
    wanted = losses(alone)
    results = [Result("left alone", None, None, 0.0, problems_of(alone, sizes, steps, 8))]

    def run(name: str, first: int, then: int, kill: Callable[[subprocess.Popen[bytes]], Any]) -> None:
        out = folder / name.replace(" ", "-")
        process = start(file, out, first)
        done = wait_for_step(process, out, chance.randrange(steps // 5, steps * 4 // 5))
        kill(process)
        at = max([int(path.stem) for path in (out / "checkpoints").glob("*.json")], default=0)
        if process.poll() is not None:
            process = start(file, out, then)
        finish(process, out)
        difference = max(abs(a - b) for a, b in zip(losses(out), wanted, strict=True))
        results.append(Result(name, done, at, difference, problems_of(out, sizes, steps, 8)))

    run("worker killed", 2, 2, lambda process: kill_worker(process, chance))
    run("job killed", 2, 2, kill_job)
    run("other number of workers", 2, 1, kill_job)
    return results


def report(results: Sequence[Result], console: Console) -> None:
    """Print a table; ends the program with 1 where a result is wrong."""
    table = Table("training", "killed at step", "went on from", "largest difference of a loss", "samples")
    for one in results:
        table.add_row(
            one.name,
            "" if one.killed_at is None else str(one.killed_at),
            "" if one.resumed_at is None else str(one.resumed_at),
            f"{one.difference:.1e}",
            "; ".join(one.problems) or "each once",
        )
    console.print(table)
    if not all(one.sound for one in results):
        raise SystemExit(1)


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""
