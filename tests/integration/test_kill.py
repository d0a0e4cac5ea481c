"""A build that is killed in the middle, three times, and run again, ends in the bytes of an undisturbed one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from factory.manifest import done_shards
from factory.storage import Storage
from tests.integration.conftest import SMALL, content_of


def start(recipe: Path, out: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "flawforge", "build", str(recipe), "--out", str(out)]
    return subprocess.Popen(command, start_new_session=True)


def kill_when_done(process: subprocess.Popen[bytes], out: Path, shards: int) -> int:
    """SIGKILL to driver, raylet and all workers once so many shards are published; shards published at the kill."""
    deadline = time.monotonic() + 300
    while len(done_shards(Storage(str(out)))) < shards:
        assert process.poll() is None, "the build ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return len(done_shards(Storage(str(out))))


def test_three_kills_change_no_byte(tmp_path):
    recipe = tmp_path / "small.yaml"
    recipe.write_text(SMALL.replace("samples_per_shard: 5", "samples_per_shard: 2"))
    undisturbed, disturbed = tmp_path / "undisturbed", tmp_path / "disturbed"
    assert start(recipe, undisturbed).wait() == 0
    done = [kill_when_done(start(recipe, disturbed), disturbed, shards) for shards in (1, 3, 6)]
    assert done[-1] < 10, "the last kill came after the end"
    assert start(recipe, disturbed).wait() == 0
    assert content_of(disturbed) == content_of(undisturbed)
