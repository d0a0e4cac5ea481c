"""The largest memory that a process has taken."""

from __future__ import annotations

import re
from pathlib import Path


def peak_mib() -> float:
    """Of this process, since its program was started.

    `ru_maxrss` would not do: in a child it begins at what the parent had when it forked.
    """
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) / 1024
