"""CPU seconds and memory of a program and of all processes that it starts, by what they are. Linux only."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import threading
from collections import defaultdict
from pathlib import Path

_PR_SET_CHILD_SUBREAPER = 36
_TICKS = os.sysconf("SC_CLK_TCK")
_STAGE = re.compile(r"MapBatches\((\w+)\)")


def adopt_orphans() -> None:
    """Makes this process the parent of processes whose own has ended, so that they are still counted."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


class Usage(threading.Thread):
    """Looks at the descendants of this process again and again, from `start` to `stop`.

    Those that were there before, such as what an earlier program has left behind, are passed over.

    Attributes:
        cpu: CPU seconds by role: `driver` (the direct child), the stages' classes, `raylet`, `gcs_server`, `other`.
        peak: bytes of private memory at the most of any one process, by role. Shared memory, which is the object
            store's, is left out.
    """

    def __init__(self, every: float = 0.25) -> None:
        super().__init__(daemon=True)
        self.peak: defaultdict[str, int] = defaultdict(int)
        self._cpu: dict[int, tuple[str, float]] = {}
        self._every = every
        self._before = set(_parents())
        self._over = threading.Event()

    @property
    def cpu(self) -> dict[str, float]:
        total: defaultdict[str, float] = defaultdict(float)
        for role, seconds in self._cpu.values():
            total[role] += seconds
        return dict(total)

    def run(self) -> None:
        while not self._over.wait(self._every):
            self._look()

    def stop(self) -> None:
        self._over.set()
        self.join()

    def _look(self) -> None:
        parents = _parents()
        for pid in parents.keys() - self._before:
            if _descends(pid, os.getpid(), parents):
                self._note(pid, direct=parents[pid] == os.getpid())

    def _note(self, pid: int, *, direct: bool) -> None:
        folder = Path(f"/proc/{pid}")
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            status = (folder / "status").read_text()
            title = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            return
        role = _role(title, direct=direct)
        if not title and pid in self._cpu:  # it has ended
            role = self._cpu[pid][0]
        self._cpu[pid] = (role, (int(fields[11]) + int(fields[12])) / _TICKS)
        found = re.search(r"RssAnon:\s+(\d+) kB", status)
        self.peak[role] = max(self.peak[role], int(found[1]) * 1024 if found else 0)


def _parents() -> dict[int, int]:
    """The parent of every process of this machine, including ended ones that no process has waited for."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError):
            parents[int(path.name)] = int((path / "stat").read_text().rpartition(")")[2].split()[1])
    return parents


def _role(title: str, *, direct: bool) -> str:
    if match := _STAGE.search(title):
        return match[1]
    for name in ("raylet", "gcs_server"):
        if f"/{name} " in title:
            return name
    return "driver" if direct and "benchmarks.factory" in title else "other"


def _descends(pid: int, root: int, parents: dict[int, int]) -> bool:
    while pid in parents:
        pid = parents[pid]
        if pid == root:
            return True
    return False
