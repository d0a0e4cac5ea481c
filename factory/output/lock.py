"""The lock of an output: one run at a time works on it, and a run that lost it writes nothing more.

`lock.json` names the holder. It is created when the lock is taken, never rewritten, and read again before and after
every change (`factory.store.fence`). The heartbeat of a run is a file of its own, `.heartbeat.RUN`: if it were in the
lock itself, a run that had been stopped for long could write its name back over that of its successor.
"""

from __future__ import annotations

import json
import logging
import os
import re
import socket
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path

from actors.errors import LockLostError, OutputError
from factory.store.fence import LOCK, holder_of
from factory.store.storage import Storage

log = logging.getLogger(__name__)

HEARTBEAT = 15.0
"""Seconds between two heartbeats."""

PATIENCE = 3 * HEARTBEAT
"""Seconds for which another run's lock is watched: one that shows no heartbeat meanwhile is taken over."""


_RUN = re.compile(r"[A-Za-z0-9]{1,64}")
"""A run's name becomes part of a path."""


PATH = LOCK


_NEVER = "1970-01-01T00:00:00+00:00"
"""The heartbeat of a holder whose own cannot be read."""


@dataclass(frozen=True)
class Holder:
    """Whose lock it is.

    Attributes:
        run: a name of the run, never used twice.
        host, pid: the process.
        boot: names the machine between two starts, and the container; or empty. Only there can the process be looked
            up.
        began, heartbeat: UTC, for people. Nothing is decided by them: clocks differ between machines.
    """

    run: str
    host: str
    pid: int
    boot: str
    began: str
    heartbeat: str

    @classmethod
    def here(cls) -> Holder:
        now = _now()
        return cls(uuid.uuid4().hex, socket.gethostname(), os.getpid(), _boot(), now, now)

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}, since {self.began}, last heartbeat {self.heartbeat}"

    @property
    def gone(self) -> bool:
        """Whether it was a process of this machine that no longer exists."""
        return bool(self.boot) and self.boot == _boot() and not _alive(self.pid)


class Lock:
    """Holds an output for the length of a `with`.

    Attributes:
        storage: the output as this run may change it: every change fails with LockLostError once the lock is lost.

    Args:
        storage: the output.
        take_over: take it from whoever holds it, without watching.
        tell: called with a message for the user, such as that the run waits for the lock.

    Raises:
        OutputError: on entering, if another run is at work on the output.
    """

    def __init__(
        self, storage: Storage, *, take_over: bool = False, tell: Callable[[str], None] = log.warning
    ) -> None:
        self.holder = Holder.here()
        self.storage = Storage(storage.url, storage.patience, run=self.holder.run)
        # What takes and gives back the lock, and the heartbeat, cannot depend on holding it.
        self._unfenced = Storage(storage.url, storage.patience)
        self._take_over, self._tell = take_over, tell
        self._over = threading.Event()
        self._lost: LockLostError | None = None
        self._heart = threading.Thread(target=self._beat, name="lock", daemon=True)

    def __enter__(self) -> Lock:
        if not self._unfenced.publish(PATH, _document(self.holder)):
            self._wrest(read_holder(self._unfenced))
        self._heart.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._heart.join()
        self._unfenced.remove_if_same(PATH, _document(self.holder))
        self._unfenced.remove(_heartbeat_path(self.holder.run))

    def check(self) -> None:
        """Raises LockLostError where a heartbeat has found that another run has taken the output over."""
        if self._lost is not None:
            raise self._lost

    def _wrest(self, other: Holder | None) -> None:
        if other is not None and not self._take_over and not other.gone:
            self._tell(
                f"{self.storage.url} is locked by {other}; watching for {PATIENCE:.0f} seconds whether it lives"
            )
            end = time.monotonic() + PATIENCE
            while (now := read_holder(self._unfenced)) is not None:
                if now != other:
                    raise OutputError(
                        f"{self.storage.url}: another run is at work there ({now}); wait for it or stop it, or take "
                        "over with --take-over: the other run then stops, and writes nothing more"
                    )
                if time.monotonic() >= end:
                    break
                time.sleep(min(1.0, HEARTBEAT / 5))
        if other is not None:
            self._tell(f"taking over the lock of {other}")
        self._unfenced.replace(PATH, _document(self.holder))
        if other is not None:
            self._unfenced.remove(_heartbeat_path(other.run))

    def _beat(self) -> None:
        while not self._over.wait(HEARTBEAT):
            try:
                self.storage.check()
                self._unfenced.replace(_heartbeat_path(self.holder.run), _now("milliseconds").encode())
            except LockLostError as lost:
                self._lost = lost
                return
            except OSError as error:
                log.warning("no heartbeat could be written to %s: %s", self.storage.url, error)
            except OutputError as error:
                log.warning("no heartbeat: %s", error)


def read_holder(storage: Storage) -> Holder | None:
    """The holder of the lock, with the latest heartbeat; None if the lock is free or cannot be parsed.

    Raises:
        OutputError: the lock exists and cannot be read.
    """
    try:
        holder = Holder(**holder_of(storage.read, storage.exists))  # type: ignore[arg-type]
    except TypeError:
        return None
    kinds = {one.name: int if one.name == "pid" else str for one in fields(Holder)}
    if not all(isinstance(value, kinds[name]) for name, value in asdict(holder).items()):
        return None
    if not _RUN.fullmatch(holder.run):
        return None
    moments = [holder.heartbeat]
    with suppress(OutputError):
        moments.append(storage.read(_heartbeat_path(holder.run)).decode("ascii", "replace"))
    return replace(holder, heartbeat=next(filter(_is_moment, reversed(moments)), _NEVER))


def _heartbeat_path(run: str) -> str:
    """Hidden, and of the form of a file that a writer left aside: `Storage.tidy` clears it away."""
    return f".heartbeat.{run}"


def _document(holder: Holder) -> bytes:
    return json.dumps(asdict(holder), indent=1).encode()


def _now(timespec: str = "seconds") -> str:
    return datetime.now(UTC).isoformat(timespec=timespec)


def _is_moment(text: str) -> bool:
    """Whether a text is a time with its zone, as `_now` writes it."""
    try:
        return datetime.fromisoformat(text).tzinfo is not None
    except ValueError:
        return False


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _boot() -> str:
    """Linux's names for the time since the machine was started, and for the container's processes; else empty."""
    try:
        return f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""
