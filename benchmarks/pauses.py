"""Stops runs (SIGSTOP) for longer than the lock's patience while others take over: `benchmarks.faults --only pauses`.

In turn the driver of a build is stopped, its writers, or everything that belongs to it, after a number of publishes
drawn by chance. Another driver takes over, with the same recipe or another (`--mode overwrite`). The first is woken up
(SIGCONT) as soon as the second has the lock, somewhere in its middle, or after its end. In the end the output must be,
byte for byte, that of the second recipe, complete and sound. Both drivers have a Ray of their own.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from rich.console import Console

from factory.maintain.verify import verify
from factory.output.lock import read_holder
from factory.output.manifest import done_shards
from factory.store.storage import Storage

RECIPE = """\
name: pauses
source: {kind: tinytown, size: 64, limit: 36, first_seed: 7000}
regions: {kind: source}
corruption: {method: blur, target: image, batch_size: 4}
verify: {least_inside: 0, most_outside: 1}
output: {samples_per_shard: 3}
execution:
  load: {cpus: 0.25}
  select: {cpus: 0.25}
  corrupt: {cpus: 0.25}
  write: {cpus: 0.25}
"""
SHARDS = 12
STOPPED = ("driver", "writers", "everything")
WOKEN = ("at once", "in the middle", "after the end")
HEARTBEAT, PATIENCE = 0.2, 1.5
"""Of the lock, in these builds."""

LIMIT = 600.0
"""Seconds after which the program gives up on a driver."""


def drive(out: str, seed: int, mode: str, take_over: bool) -> None:
    """A driver."""
    from benchmarks.factory.pretence import connect, sleeping
    from factory.build import Mode, build
    from factory.output import lock
    from factory.recipe.recipe import parse_recipe

    lock.HEARTBEAT, lock.PATIENCE = HEARTBEAT, PATIENCE
    connect("local", sleeping("Corrupt", 0.05))
    build(parse_recipe(RECIPE, "pauses.yaml", [f"seed={seed}"]), out, mode=Mode(mode), take_over=take_over)


def paused_builds(pauses: int, work: Path, chance: random.Random, console: Console) -> str:
    """Returns a sentence.

    Raises:
        SystemExit: an output is mixed, incomplete, or has something missing or left over.
    """
    alone = {seed: work / f"paused-alone-{seed}" for seed in (0, 1)}
    for seed, out in alone.items():
        _end(_start(out, seed, "overwrite"), 0)
    counts: Counter[str] = Counter()
    for number in range(pauses):
        out = work / f"paused-{number:02d}"
        stopped, woken = STOPPED[number % 3], WOKEN[number // 3 % 3]
        seed = chance.randrange(2)
        mode = "overwrite" if seed else chance.choice(["resume", "overwrite"])
        ended = _paused(out, stopped, woken, seed, mode, chance)
        wrong = _wrong(out, alone[seed])
        if ended == 0:
            wrong = wrong or "the first driver did not notice that it had lost the lock"
        console.print(
            f"{out.name}: {stopped} stopped, woken {woken}, taken over by {'another' if seed else 'the same'} recipe "
            f"({mode}); the first ended with {ended}: {wrong or 'as it should be'}",
            highlight=False,
        )
        if wrong:
            raise SystemExit(f"{out}: {wrong}")
        counts[f"{'another' if seed else 'the same'} recipe"] += 1
    return f"pauses: {pauses}, taken over by " + ", ".join(
        f"{name} {n}" for name, n in sorted(counts.items())
    )


def _paused(out: Path, stopped: str, woken: str, seed: int, mode: str, chance: random.Random) -> int:
    """One pause; the exit status of the first driver."""
    first = _start(out, 0, "resume")
    _wait(out, chance.randrange(SHARDS - 1), first)
    pids = _stop(first, stopped)
    run = _run(out)
    second = _start(out, seed, mode, take_over=stopped == "writers")
    while second.poll() is None and _run(out) == run:
        time.sleep(0.02)
    if woken == "in the middle":
        time.sleep(chance.random() * 3)
    elif woken == "after the end":
        _end(second, 0)
    for pid in pids:
        # Where the first driver has ended meanwhile, its workers have, too.
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
    _end(second, 0)
    return _end(first, None)


def _run(out: Path) -> str:
    """The run that holds the lock."""
    holder = read_holder(Storage(str(out)))
    return holder.run if holder else ""


def _start(out: Path, seed: int, mode: str, take_over: bool = False) -> subprocess.Popen[bytes]:
    code = f"from benchmarks.pauses import drive; drive({str(out)!r}, {seed}, {mode!r}, {take_over})"
    log = out.with_suffix(".log").open("ab")
    return subprocess.Popen([sys.executable, "-c", code], stdout=log, stderr=log)


def _end(driver: subprocess.Popen[bytes], status: int | None) -> int:
    """The exit status of a driver, which must be `status` unless that is None."""
    got = driver.wait(LIMIT)
    if status is not None and got != status:
        raise SystemExit(f"a driver ended with {got}; its log stands beside its output")
    return got


def _wait(out: Path, published: int, driver: subprocess.Popen[bytes]) -> None:
    storage, deadline = Storage(str(out)), time.monotonic() + LIMIT
    while len(done_shards(storage)) < published or not storage.exists("lock.json"):
        if time.monotonic() > deadline or driver.poll() is not None:
            raise SystemExit(f"{out}: the first driver came to nothing")
        time.sleep(0.01)


def _stop(driver: subprocess.Popen[bytes], what: str) -> list[int]:
    """Stops a driver, the writers among its descendants, or all of them; the processes that were stopped."""
    chosen: list[int] = []
    while not chosen and driver.poll() is None:
        family = [driver.pid, *_descendants(driver.pid)]
        writers = [pid for pid in family if "MapBatches(Write)" in _title(pid)]
        chosen = {"driver": family[:1], "writers": writers, "everything": family}[what]
    stopped = []
    for pid in chosen:
        try:
            os.kill(pid, signal.SIGSTOP)
        except ProcessLookupError:
            continue
        stopped.append(pid)
    return stopped


def _descendants(pid: int) -> list[int]:
    found, parents = list[int](), {pid}
    processes = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            processes[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    while children := [one for one, parent in processes.items() if parent in parents]:
        found += children
        parents = set(children)
    return found


def _title(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
    except OSError:
        return ""


def _wrong(out: Path, alone: Path) -> str:
    """What is wrong with an output; empty if nothing is."""
    if not json.loads((out / "manifest.json").read_text())["complete"]:
        return "not complete"
    if problems := verify(Storage(str(out))).problems:
        return f"not sound: {problems[0]}"
    ours, theirs = _files(out), _files(alone)
    different = sorted(path for path in ours.keys() | theirs.keys() if ours.get(path) != theirs.get(path))
    return f"{', '.join(different[:5])} differ" if different else ""


def _files(out: Path) -> dict[str, str]:
    """sha256 of everything but sidecars, whose seconds differ, and the records of runs."""
    return {
        path.relative_to(out).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in out.rglob("[!.]*")
        if path.is_file() and path.parent.name not in ("runs", "stats")
    }
