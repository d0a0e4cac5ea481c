"""A build that is killed or stopped in the middle, and run again, ends in the bytes of an undisturbed one."""

from __future__ import annotations

import contextlib
import signal
import subprocess
from pathlib import Path

from factory.output.manifest import done_shards
from factory.recipe.recipe import load_recipe
from factory.store.storage import Storage
from tests.commands import kill, start, start_held_back
from tests.factory.maintain.outputs import by_the_stages
from tests.integration.conftest import WITHOUT_UNET, content_of
from tests.patience import seconds, until

SHARDS = 10


def stop(process: subprocess.Popen[str], out: Path) -> str:
    """SIGTERM to the driver, which ends with a sentence, gives the lock back, and leaves no process behind.

    Returns:
        What it printed.
    """
    process.terminate()
    printed, _ = process.communicate(timeout=seconds(120))
    assert process.returncode == 128 + signal.SIGTERM
    assert "stopped by SIGTERM; what is published stays, and the same command goes on from there" in printed
    assert not (out / "lock.json").exists()
    until(lambda: members(process.pid), lambda left: not left, within=60)
    return printed


def members(group: int) -> list[int]:
    """Processes of a group that have not ended."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, its_group = path.read_text().rpartition(")")[2].split()[:3]
            if int(its_group) == group and state != "Z":
                found.append(int(path.parent.name))
    return found


def test_kills_and_a_stop_change_no_byte(tmp_path):
    """The last shard is held back until both have come, wherever among the others they hit."""
    recipe, gate = tmp_path / "small.yaml", tmp_path / "gate"
    recipe.write_text(WITHOUT_UNET)
    undisturbed, disturbed = tmp_path / "undisturbed", tmp_path / "disturbed"
    by_the_stages(undisturbed, load_recipe(recipe))
    storage = Storage(str(disturbed))
    command = ("build", str(recipe), "--out", str(disturbed))

    def until_published(run: subprocess.Popen[str], shards: int) -> None:
        until(
            lambda: done_shards(storage),
            lambda done: len(done) >= shards,
            within=300,
            every=0.02,
            unless=lambda: "the build has ended" if run.poll() is not None else "",
        )

    killed = start_held_back(gate, SHARDS - 1, *command)
    until_published(killed, 1)
    kill(killed)
    left = len(done_shards(storage))
    assert 1 <= left < SHARDS

    stopped = start_held_back(gate, SHARDS - 1, *command)
    until_published(stopped, min(left + 2, SHARDS - 1))
    assert "taking over the lock of process" in stop(stopped, disturbed)
    assert left <= len(done_shards(storage)) < SHARDS

    finished = start(*command)
    printed, _ = finished.communicate(timeout=seconds(300))
    assert finished.returncode == 0 and "taking over" not in printed, printed
    assert content_of(disturbed) == content_of(undisturbed)
    assert not (disturbed / "lock.json").exists()
