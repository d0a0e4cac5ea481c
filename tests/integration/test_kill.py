"""A build that is killed or stopped in the middle, and run again, ends in the bytes of an undisturbed one."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from factory.manifest import done_shards
from factory.recipe import load_recipe
from factory.storage import Storage
from tests.factory.care.outputs import by_the_stages
from tests.integration.conftest import SMALL, content_of


def start(recipe: Path, out: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "flawforge", "build", str(recipe), "--out", str(out)]
    return subprocess.Popen(
        command, start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def wait_for(process: subprocess.Popen[str], out: Path, shards: int) -> None:
    """Until so many shards are published."""
    deadline = time.monotonic() + 300
    while len(done_shards(Storage(str(out)))) < shards:
        assert process.poll() is None, "the build ended too early"
        assert time.monotonic() < deadline
        time.sleep(0.02)


def kill(process: subprocess.Popen[str]) -> None:
    """SIGKILL to driver, raylet and all workers."""
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def stop(process: subprocess.Popen[str], out: Path) -> None:
    """SIGTERM to the driver, which ends with a sentence, gives the lock back, and leaves no process behind."""
    process.terminate()
    told, _ = process.communicate(timeout=120)
    assert process.returncode == 128 + signal.SIGTERM
    assert "stopped by SIGTERM; what is published stays, and the same command goes on from there" in told
    assert not (out / "lock.json").exists()
    deadline = time.monotonic() + 60
    while members(process.pid):
        assert time.monotonic() < deadline, "processes of the stopped run are left"
        time.sleep(0.1)


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
    recipe = tmp_path / "small.yaml"
    changed = SMALL.replace("samples_per_shard: 5", "samples_per_shard: 2")
    recipe.write_text(changed.replace("inversion_steps: 12", "inversion_steps: 6"))
    undisturbed, disturbed = tmp_path / "undisturbed", tmp_path / "disturbed"
    by_the_stages(undisturbed, load_recipe(recipe))

    for number, (shards, end) in enumerate([(1, "kill"), (3, "stop"), (6, "kill"), (10, "")]):
        run = start(recipe, disturbed)
        if not end:
            assert "taking over the lock of process" in run.communicate()[0]
            assert run.returncode == 0
            break
        wait_for(run, disturbed, shards)
        kill(run) if end == "kill" else stop(run, disturbed)
        assert number <= len(done_shards(Storage(str(disturbed)))) < 10, "it came after the end"
    assert content_of(disturbed) == content_of(undisturbed)
    assert not (disturbed / "lock.json").exists()
