"""Kills trainings and compares the losses of what goes on: `benchmarks.faults --only training`.

Four trainings of one recipe, in float64, with frozen batch norms and without stochastic depth: one that is left alone;
one whose worker gets a SIGKILL at a random moment; one whose job, driver and Ray with it, gets one and is started
again; and one that is started again with another number of workers. The losses must be those of the first to 1e-8, and
in the surviving history (lines past a checkpoint are dropped) no sample may be read twice within a pass of its data
set, and none be missed.
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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psutil
from rich.console import Console
from rich.table import Table

from factory.store.storage import Storage
from train import checkpoint, progress
from train.progress import Progress

STEPS, BATCH = 200, 8
SIZES = {"labelled": 100, "others": 300}
"""Samples of the data sets."""

RECIPE = f"""\
name: faults
kind: detector
iterations: {STEPS}
batch: {BATCH}
data:
  - {{name: labelled, url: tinytown/labelled, weight: 3}}
  - {{name: others, url: tinytown/validation, weight: 1}}
model: {{checkpoint: tinytown/segmenter-convnext, batch_norm: frozen, drop_path: 0.0}}
augmentation: {{crop: 48}}
optimizer: {{learning_rate: 3.0e-4, warm_up: 10}}
precision: float64
execution: {{micro_batch: 4, save_every: 20, log_samples: true, cpus: 0.5}}
"""
BOUND = 1e-8
LIMIT = 1800.0
"""Seconds after which the program gives up on a training."""

WORKER = "RayTrainWorker"
"""In the title of a worker's process."""


@dataclass(frozen=True)
class Fault:
    """What happens to a training.

    Attributes:
        kind: `worker`: one of its workers gets a SIGKILL; `job`: its driver and everything that it has started.
        workers: with how many a job is started again.
    """

    kind: Literal["worker", "job"]
    workers: int = 2


FAULTS = {
    "worker killed": (Fault("worker"),),
    "job killed": (Fault("job"),),
    "other number of workers": (Fault("job", workers=1),),
}


@dataclass(frozen=True)
class Result:
    """A training with faults.

    Attributes:
        name: of the training.
        kills: steps that were done at each fault, as far as the progress showed, and the checkpoint then.
        difference: largest difference of a loss from the training that was left alone.
        problems: what is wrong with the samples of its history.
        resized: seconds from a change of the cluster to the first step of another number of workers, where that is it.
    """

    name: str
    kills: tuple[tuple[int, int], ...]
    difference: float
    problems: tuple[str, ...]
    resized: float | None = None

    @property
    def sound(self) -> bool:
        return self.difference <= BOUND and not self.problems


def start(recipe: Path, out: Path, workers: int | str, *options: str) -> subprocess.Popen[bytes]:
    """Start `flawforge train` in a session of its own; its output goes to `OUT.txt`.

    Args:
        recipe: a file.
        out: the output.
        workers: as `--workers` takes them.
        options: more of the command; without `--address` the training has a Ray of its own.
    """
    command = [sys.executable, "-m", "flawforge", "train", str(recipe)]
    command += ["--out", str(out), "--workers", str(workers), *options]
    with Path(f"{out}.txt").open("ab") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)


def finish(run: subprocess.Popen[bytes], out: Path) -> None:
    """Wait for a training, which must end well."""
    if run.wait(LIMIT):
        raise SystemExit(f"{out} ended with {run.returncode}:\n{Path(f'{out}.txt').read_text()[-3000:]}")


def wait_for(
    run: subprocess.Popen[bytes], out: Path, what: str, reached: Callable[[Progress], bool]
) -> Progress:
    """Wait until the progress of a training is as `reached` wants it, which `what` says in words; returns it."""
    deadline = time.monotonic() + LIMIT
    storage = Storage(str(out))
    while time.monotonic() < deadline:
        found = progress.read(storage)
        if found is not None and reached(found):
            return found
        if run.poll() is not None:
            raise SystemExit(f"{out} ended before {what}:\n{Path(f'{out}.txt').read_text()[-3000:]}")
        time.sleep(0.05)
    raise SystemExit(f"{out}: {what} did not come within {LIMIT:.0f} s")


def wait_for_step(run: subprocess.Popen[bytes], out: Path, step: int, restarts: int) -> int:
    """Wait until a training has done `step` steps, after its workers were restarted; returns the steps it had done."""
    return wait_for(
        run, out, f"step {step}", lambda found: found.step >= step and found.restarts >= restarts
    ).step


def kill_worker(driver: int, chance: random.Random) -> None:
    """SIGKILL to one of the workers of a training whose driver, a process id, started Ray."""
    workers = [one for one in psutil.Process(driver).children(recursive=True) if WORKER in _title(one)]
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


def problems_of(out: Path, sizes: Mapping[str, int], steps: int, batch: int) -> tuple[str, ...]:
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


def disturbed(
    file: Path, out: Path, faults: Sequence[Fault], chance: random.Random, *, steps: int
) -> tuple[tuple[int, int], ...]:
    """Run a training of two workers, with faults at random moments, to its end.

    Args:
        file: its recipe.
        out: its output.
        faults: in their order.
        chance: of the moments: between a tenth and a half of the steps.
        steps: its iterations.

    Returns:
        Steps that were done at each fault, and the checkpoint then.
    """
    moments = sorted(chance.sample(range(steps // 10, steps // 2), len(faults)))
    process, kills, restarts = start(file, out, 2), [], 0
    for fault, moment in zip(faults, moments, strict=True):
        done = wait_for_step(process, out, moment, restarts)
        if fault.kind == "worker":
            kill_worker(process.pid, chance)
            restarts += 1
        else:
            kill_job(process)
            restarts = 0
        kills.append((done, max(checkpoint.steps_of(Storage(str(out))), default=0)))
        if fault.kind == "job":
            process = start(file, out, fault.workers)
    finish(process, out)
    return tuple(kills)


def compared(
    name: str,
    out: Path,
    alone: Path,
    kills: tuple[tuple[int, int], ...],
    sizes: Mapping[str, int],
    batch: int,
    resized: float | None = None,
) -> Result:
    """The result of a training, compared with one that was left alone.

    Args:
        name: of the training.
        out, alone: the outputs of both.
        kills: see `disturbed`.
        sizes: samples of the data sets by name.
        batch: of the recipe.
        resized: see `Result`.
    """
    wanted = losses(alone)
    difference = max(abs(one - other) for one, other in zip(losses(out), wanted, strict=True))
    return Result(name, kills, difference, problems_of(out, sizes, len(wanted), batch), resized)


def faulty_trainings(folder: Path, *, seed: int) -> list[Result]:
    """Run the four trainings, one after the other.

    Args:
        folder: for the recipe and the outputs.
        seed: of the moments of the kills.
    """
    chance = random.Random(seed)
    file, alone = folder / "recipe.yaml", folder / "left-alone"
    file.write_text(RECIPE)
    finish(start(file, alone, 1), alone)
    results = [compared("left alone", alone, alone, (), SIZES, BATCH)]
    for name, faults in FAULTS.items():
        out = folder / name.replace(" ", "-")
        kills = disturbed(file, out, faults, chance, steps=STEPS)
        results.append(compared(name, out, alone, kills, SIZES, BATCH))
    return results


def report(results: Sequence[Result], console: Console) -> None:
    """Print a table; ends the program with 1 where a result is wrong."""
    table = Table(
        "training",
        "killed at step",
        "last checkpoint",
        "resized after",
        "largest difference of a loss",
        "samples",
    )
    for one in results:
        table.add_row(
            one.name,
            ", ".join(str(done) for done, _ in one.kills),
            ", ".join(str(saved) for _, saved in one.kills),
            "" if one.resized is None else f"{one.resized:.0f} s",
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
