"""The parts of the factory's benchmark that need no Ray, at toy size."""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
from pathlib import Path

from benchmarks.factory import plans, samples
from benchmarks.factory.usage import _role
from factory.output.manifest import read_sidecars
from factory.output.plan import read_plan
from factory.store.storage import Storage
from tests.patience import seconds


def test_processes_by_what_they_are():
    assert _role("ray::MapWorker(MapBatches(Corrupt)).submit", direct=False) == "Corrupt"
    assert _role("/lib/ray/core/src/ray/raylet/raylet --id 1", direct=False) == "raylet"
    assert _role("python -m benchmarks.factory drive a b c", direct=True) == "driver"
    assert _role("python -u dashboard/agent.py", direct=False) == "other"


def test_cpu_and_memory_of_a_grandchild():
    """It holds 64 MiB and works for half a second of CPU, and tells the CPU time that it knows of itself.

    In a program of its own, which has no other children. The grandchild waits until it has been looked at.
    """
    grandchild = (
        "import sys, time\nheld = bytearray(64 << 20)\nwhile time.process_time() < 0.5: pass\n"
        "print(time.process_time(), flush=True)\nsys.stdin.read()"
    )
    child = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {grandchild!r}])"
    program = (
        "import json, subprocess, sys, time\nfrom benchmarks.factory.usage import Usage\n"
        "usage = Usage(every=0.05)\nusage.start()\n"
        f"child = subprocess.Popen([sys.executable, '-c', {child!r}], stdin=subprocess.PIPE, stdout=subprocess.PIPE)\n"
        "known = float(child.stdout.readline())\n"
        "while usage.cpu.get('other', 0) < known - 0.05: time.sleep(0.05)\n"
        "child.communicate()\nusage.stop()\n"
        "print(json.dumps([known, usage.cpu['other'], usage.peak['other']]))"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=seconds(120))
    known, cpu, peak = json.loads(done.stdout)
    assert known - 0.05 <= cpu < known + 0.5  # its end costs CPU time, too
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
