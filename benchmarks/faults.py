"""Kills, and stops, what takes part in builds, and compares the bytes: `make faults`; parts of it with `--only`.

`kills`: drivers, actors, writers and raylets.

A cluster of three nodes on this machine. Every kill lands between the first and the last publish of its build; shards
in flight are written down. After each build, tars and indexes are compared with those of a build that was left alone,
and the corruptions that were made again are counted: at most the shards that were begun and not published at a kill.

`blame`: corruption workers are killed twenty times in a row, each soon after it has begun a shard. No item is rejected.

`pauses`: see `benchmarks.pauses`. `training`: see `benchmarks.training_faults` and `benchmarks.elastic_trainings`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.elastic_trainings import elastic_trainings
from benchmarks.nodes import Nodes, cluster
from benchmarks.pauses import paused_builds
from benchmarks.training_faults import faulty_trainings
from benchmarks.training_faults import report as report_trainings
from factory.output.manifest import done_shards
from factory.store.storage import Storage

KINDS = ("driver", "actor", "writer", "raylet")
MODELS = {
    "tinytown": {"corruption.inversion_steps": 5},
    "fast": {"corruption.method": "blur", "corruption.target": "image"},
    "slow": {"corruption.method": "blur", "corruption.target": "image"},
}
"""By name, what is changed in `RECIPE`. `fast` has no model: the image is taken for its own corruption. `slow` sleeps
before."""

SECONDS_A_SAMPLE = 0.3
"""Of `slow`."""

RECIPE = """\
name: faults
source: {kind: tinytown, size: 64, limit: 72, first_seed: 7000}
regions: {kind: source}
corruption: {batch_size: 4}
verify: {least_inside: 0, most_outside: 1}
output: {samples_per_shard: 3}
execution:
  load: {cpus: 0.25}
  select: {cpus: 0.25}
  corrupt: {cpus: 0.5, largest: 2}
  write: {cpus: 0.25}
  passes: 5
"""
SHARDS = 24
PATIENCE = 300.0
"""Seconds without any progress after which the program gives up."""


@dataclass
class Fault:
    """One kill: what, after how many publishes, and the shards that were begun and not published then."""

    kind: str
    published: int
    in_flight: list[int]


@dataclass
class Outcome:
    """A build with faults.

    Attributes:
        model: a name in `MODELS`.
        faults: in their order.
        begun: how often the corruption of each shard was begun.
        same: whether tars and indexes are those of the build that was left alone.
        drivers: how often a driver was started.
    """

    model: str
    faults: list[Fault] = field(default_factory=list)
    begun: Counter[int] = field(default_factory=Counter)
    same: bool = False
    drivers: int = 0

    @property
    def redone(self) -> int:
        return self.begun.total() - SHARDS

    @property
    def allowed(self) -> int:
        return sum(len(fault.in_flight) for fault in self.faults)


def drive(recipe: str, model: str, out: str, address: str, ledger: str) -> None:
    """A driver: builds, with workers that write down what they begin."""
    from benchmarks.factory.pretence import connect, no_model, sleeping
    from factory.build import build
    from factory.recipe.recipe import parse_recipe

    def keep_a_ledger() -> None:
        """Runs in every worker before its first task; a closure, since workers cannot import the benchmarks."""
        from pathlib import Path

        from factory.pipeline import stages

        work = stages.Corrupt.__call__

        def noted(self: Any, table: Any) -> Any:
            with Path(ledger).open("a") as file:
                file.write(f"{stages.from_table(table).number}\n")
            return work(self, table)

        stages.Corrupt.__call__ = noted  # type: ignore[method-assign]

    hooks = {"fast": [no_model()], "slow": [sleeping("Corrupt", SECONDS_A_SAMPLE)]}
    connect(address, keep_a_ledger, *hooks.get(model, []))
    changes = [f"{name}={value}" for name, value in MODELS[model].items()]
    build(parse_recipe(recipe, "faults.yaml", changes), out, address=address)


def blamed(kills: int, work: Path, nodes: Nodes, chance: random.Random) -> str:
    """Kills whatever corruption worker has begun a shard, again and again; a sentence, or an error where it matters."""
    alone, out = work / "slow-alone", work / "slow-killed"
    disturbed("slow", alone, [], nodes, chance)
    ledger = out.with_suffix(".ledger")
    ledger.touch()
    driver, drivers, killed, begun = _start("slow", out, nodes.address, ledger), 1, 0, 0
    deadline = time.monotonic() + PATIENCE * 4
    while driver.poll() != 0:
        if time.monotonic() > deadline:
            raise SystemExit(f"{out}: it did not end")
        if driver.poll() is not None:
            driver = _start("slow", out, nodes.address, ledger)
            drivers += 1
        lines = len(ledger.read_text().split())
        if killed < kills and lines > begun:
            begun = lines
            time.sleep(chance.random() * 3 * SECONDS_A_SAMPLE)
            for pid in nodes.pids(["Corrupt"]):
                os.kill(pid, signal.SIGKILL)
            killed += 1
        time.sleep(0.02)
    if content(out) != content(alone):
        raise SystemExit(
            f"{out}: the bytes differ after {killed} kills of corruption workers; an item was rejected?"
        )
    return f"blame: {killed} kills of corruption workers in a row, {drivers} drivers, no item rejected, bytes equal"


def disturbed(model: str, out: Path, kinds: Sequence[str], nodes: Nodes, chance: random.Random) -> Outcome:
    """One build with a kill of every one of `kinds`, at publishes drawn by chance."""
    storage, ledger, outcome = Storage(str(out)), out.with_suffix(".ledger"), Outcome(model)
    ledger.touch()
    at = sorted(chance.sample(range(1, SHARDS - 2), len(kinds)))
    waiting = list(zip(at, kinds, strict=True))
    driver = _start(model, out, nodes.address, ledger)
    outcome.drivers += 1
    moved, published = time.monotonic(), -1
    while True:
        done = done_shards(storage)
        if len(done) != published:
            moved, published = time.monotonic(), len(done)
        if time.monotonic() - moved > PATIENCE:
            raise SystemExit(
                f"{out}: nothing was published for {PATIENCE:.0f} seconds, {published} of {SHARDS} are"
            )
        if waiting and waiting[0][0] <= published < SHARDS:
            kind = waiting.pop(0)[1]
            begun = {int(line) for line in ledger.read_text().split()}
            if _kill(kind, driver, nodes, chance):
                outcome.faults.append(Fault(kind, published, sorted(begun - done)))
            else:
                waiting.insert(0, (published, kind))
        if driver.poll() is not None:
            if driver.returncode == 0:
                break
            driver = _start(model, out, nodes.address, ledger)
            outcome.drivers += 1
        time.sleep(0.02)
    outcome.begun.update(int(line) for line in ledger.read_text().split())
    return outcome


def _kill(kind: str, driver: subprocess.Popen[bytes], nodes: Nodes, chance: random.Random) -> bool:
    """Whether there was something to kill."""
    if kind == "driver":
        driver.kill()
        driver.wait()
        return True
    if kind == "raylet":
        nodes.kill_raylet(chance.randrange(len(nodes.workers)))
        nodes.add()
        return True
    pids = nodes.pids(["Write"] if kind == "writer" else ["Load", "SelectRegions", "Corrupt"])
    if not pids:
        return False
    os.kill(chance.choice(sorted(pids)), signal.SIGKILL)
    return True


def _start(model: str, out: Path, address: str, ledger: Path) -> subprocess.Popen[bytes]:
    arguments = ", ".join(map(repr, (model, str(out), address, str(ledger))))
    code = f"from benchmarks.faults import RECIPE, drive; drive(RECIPE, {arguments})"
    log = out.with_suffix(".log").open("ab")
    return subprocess.Popen([sys.executable, "-c", code], stdout=log, stderr=log)


def content(out: Path) -> dict[str, str]:
    """sha256 of every tar, index, plan and identity; not of what a killed writer has left aside, with a leading dot."""
    made = [path for folder in ("shards", "index") for path in out.glob(f"{folder}/[!.]*")]
    files = sorted([*made, out / "plan.parquet", out / "identity.json"])
    return {file.relative_to(out).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=80, help="with the fast model, a quarter of every kind")
    parser.add_argument("--tinytown", type=int, default=20, help="with the shipped diffusion model")
    parser.add_argument("--only", choices=("kills", "blame", "pauses", "training"), default=None)
    parser.add_argument("--in-a-row", type=int, default=20, help="kills of corruption workers")
    parser.add_argument("--pauses", type=int, default=40)
    parser.add_argument("--per-build", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--work", type=Path, default=None, help="where outputs go; default: a temporary folder"
    )
    parser.add_argument("--report", type=Path, default=None, help="write every fault as JSON")
    given = parser.parse_args(arguments)
    console, chance = Console(width=120), random.Random(given.seed)
    with tempfile.TemporaryDirectory() as temporary:
        work = given.work or Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        if given.only in (None, "pauses"):
            console.print(paused_builds(given.pauses, work, chance, console), highlight=False)
        if given.only in (None, "blame"):
            with cluster() as nodes:
                console.print(blamed(given.in_a_row, work, nodes, chance), highlight=False)
        if given.only in (None, "training"):
            trainings = faulty_trainings(work, seed=given.seed)
            trainings += elastic_trainings(work, work / "left-alone", seed=given.seed)
            report_trainings(trainings, console)
        if given.only in (None, "kills"):
            with cluster() as nodes:
                outcomes = _killed_builds(given, work, nodes, chance, console)
            _report(outcomes, given.report, console)


def _killed_builds(
    given: argparse.Namespace, work: Path, nodes: Nodes, chance: random.Random, console: Console
) -> list[Outcome]:
    outcomes = list[Outcome]()
    for model, kills in (("fast", given.kills), ("tinytown", given.tinytown)):
        alone = work / f"{model}-alone"
        disturbed(model, alone, [], nodes, chance)
        kinds = [KINDS[number % len(KINDS)] for number in range(kills)]
        chance.shuffle(kinds)
        builds = 0
        while kinds:
            out = work / f"{model}-{builds:02d}"
            outcome = disturbed(model, out, kinds[: given.per_build], nodes, chance)
            outcome.same = content(out) == content(alone)
            outcomes.append(outcome)
            counts = Counter(fault.kind for fault in outcome.faults)
            # A build that ended before its last kills leaves them to the next one.
            for kind in counts.elements():
                kinds.remove(kind)
            builds += 1
            console.print(
                f"{out.name}: {dict(counts)}, {outcome.drivers} drivers, {outcome.redone} redone of "
                f"{outcome.allowed} allowed, bytes {'equal' if outcome.same else 'DIFFER'}",
                highlight=False,
            )
    return outcomes


def _report(outcomes: Sequence[Outcome], report: Path | None, console: Console) -> None:
    console.print(_table(outcomes))
    if report:
        rows = [
            {
                "model": one.model,
                "same": one.same,
                "redone": one.redone,
                "faults": [vars(f) for f in one.faults],
            }
            for one in outcomes
        ]
        report.write_text(json.dumps(rows, indent=1) + "\n")
    wrong = [one for one in outcomes if not one.same or one.redone > one.allowed]
    if wrong:
        raise SystemExit(f"{len(wrong)} of {len(outcomes)} builds are not as they should be")


def _table(outcomes: Sequence[Outcome]) -> Table:
    table = Table("model", *KINDS, "kills", "builds", "equal", "redone", "in flight at the kills")
    for model in ("fast", "tinytown"):
        here = [one for one in outcomes if one.model == model]
        counts = Counter(fault.kind for one in here for fault in one.faults)
        table.add_row(
            model,
            *(str(counts[kind]) for kind in KINDS),
            str(counts.total()),
            str(len(here)),
            str(sum(one.same for one in here)),
            str(sum(one.redone for one in here)),
            str(sum(one.allowed for one in here)),
        )
    return table


if __name__ == "__main__":
    main()
