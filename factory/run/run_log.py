"""The log of a run, `OUT/runs/NAME.jsonl`: a JSON object per line, for programs and for the morning after."""

from __future__ import annotations

import json
import logging
import time
from datetime import UTC, datetime

from actors.errors import LockLostError, OutputError
from factory.output.layout import RUNS
from factory.store.storage import Storage

log = logging.getLogger(__name__)

KEPT = 20
"""Runs whose files are kept, the present one included."""

SECONDS_BETWEEN_WRITES = 30.0
BYTES_A_SECOND = 100_000
"""A bucket knows no appending: the log is written anew, after `SECONDS_BETWEEN_WRITES`, and seldom enough to stay below
this on average."""


def run_name(began: datetime, short: str) -> str:
    """`20261121T200533Z-1f0c9a2e`: names sort by time."""
    return f"{began.astimezone(UTC):%Y%m%dT%H%M%SZ}-{short}"


def log_path(name: str) -> str:
    return f"{RUNS}/{name}.jsonl"


def state_path(name: str) -> str:
    return f"{RUNS}/{name}.json"


def clear_old(storage: Storage) -> None:
    """Deletes the files of all but the newest runs, so that one more makes `KEPT`."""
    names = storage.names(RUNS)
    old = sorted({name.partition(".")[0] for name in names})[: -(KEPT - 1)]
    for name in names:
        if name.partition(".")[0] in old:
            storage.remove(f"{RUNS}/{name}")


class RunLog:
    """Lines of one run. Nothing that goes wrong with them ends the run.

    On a disk every line is written at once, and none after an error. In a bucket lines wait for `flush`.

    Args:
        storage: the output; best with little patience.
        name: of the run.
    """

    def __init__(self, storage: Storage, name: str) -> None:
        self.storage, self.name, self.path = storage, name, log_path(name)
        self._lines: list[bytes] = []
        self._written = 0
        self._last_write = time.monotonic()
        self._broken = False

    def note(self, event: str, **facts: object) -> None:
        """Adds a line: `{"time": UTC, "event": event, ...facts}`."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        line = json.dumps({"time": now, "event": event, **facts}).encode() + b"\n"
        if self.storage.local is not None:
            self._append(line)
            return
        self._lines.append(line)

    def flush(self, *, now: bool = False) -> None:
        """Writes what waits, where it is time to, or `now`."""
        lines = list(self._lines)
        if len(lines) == self._written:
            return
        data = b"".join(lines)
        pause = max(SECONDS_BETWEEN_WRITES, len(data) / BYTES_A_SECOND)
        if not now and time.monotonic() - self._last_write < pause:
            return
        try:
            self.storage.replace(self.path, data)
            self._written = len(lines)
        except (OutputError, LockLostError, OSError) as error:
            # A bucket may be well again the next time: the lines wait.
            log.warning("the log of the run could not be written: %s", error)
        self._last_write = time.monotonic()

    def _append(self, line: bytes) -> None:
        if self._broken or self.storage.local is None:
            return
        path = self.storage.local / self.path
        try:
            self.storage.check()
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("ab") as stream:
                stream.write(line)
        except (OutputError, LockLostError, OSError) as error:
            self._broken = True
            log.warning("the log of the run ends here, %s cannot be written: %s", path, error)
