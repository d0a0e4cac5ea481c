"""The parts of the factory's benchmark that need no Ray, at toy size."""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
from pathlib import Path

from benchmarks.factory import plans, samples
from benchmarks.factory.usage import _role
from factory.manifest import read_sidecars
from factory.plan import read_plan
from factory.storage import Storage


def test_processes_by_what_they_are():
    assert _role("ray::MapWorker(MapBatches(Corrupt)).submit", direct=False) == "Corrupt"
    assert _role("/lib/ray/core/src/ray/raylet/raylet --id 1", direct=False) == "raylet"
    assert _role("python -m benchmarks.factory drive a b c", direct=True) == "driver"
    assert _role("python -u dashboard/agent.py", direct=False) == "other"


def test_cpu_and_memory_of_a_grandchild():
    """It holds 64 MiB and works for half a second of CPU. In a program of its own, which has no other children."""
    grandchild = (
        "import time\nheld = bytearray(64 << 20)\nwhile time.process_time() < 0.5: pass\ntime.sleep(0.5)"
    )
    child = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {grandchild!r}])"
    program = (
        "import json, subprocess, sys\nfrom benchmarks.factory.usage import Usage\n"
        f"usage = Usage(every=0.05)\nusage.start()\nsubprocess.run([sys.executable, '-c', {child!r}])\nusage.stop()\n"
        "print(json.dumps([usage.cpu['other'], usage.peak['other']]))"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    cpu, peak = json.loads(done.stdout)
    assert 0.5 <= cpu < 1.5
    assert 64 << 20 <= peak < 128 << 20


def test_a_plan_of_which_half_is_done(tmp_path: Path):
    plans.draw(1000, str(tmp_path))
    storage = Storage(str(tmp_path))
    assert [item.key for item in read_plan(storage).shard(7)][:1] == [
        f"train-00000_{896:012d}-{896 * 2654435761 % 2**64:016x}"
    ]
    assert plans.mark_half(tmp_path) == 4
    assert {number: one.planned for number, one in read_sidecars(storage).items()} == {
        0: 128,
        2: 128,
        4: 128,
        6: 128,
    }


def test_a_source_of_tars(tmp_path: Path):
    samples.make_source(tmp_path / "source", 3000)
    tars = sorted((tmp_path / "source").iterdir())
    assert len(tars) == 3 and len({tar.stat().st_ino for tar in tars}) == 1
    with tarfile.open(tars[2]) as tar:
        assert len(tar.getnames()) == 2000
