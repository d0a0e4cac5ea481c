"""A courtesy lock: two runs at work on one output would do everything twice.

Nothing that is published depends on it: shards are created once, and equal, whoever makes them.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from actors.errors import BuildError, OutputError
from factory.storage import Storage

log = logging.getLogger(__name__)

PATH = "lock.json"
HEARTBEAT = 15.0
"""Seconds between two heartbeats."""

PATIENCE = 3 * HEARTBEAT
"""Seconds for which another run's lock is watched: one that shows no heartbeat meanwhile is taken over."""


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
        """Whether it was a process of this machine that is not there any more."""
        return bool(self.boot) and self.boot == _boot() and not _alive(self.pid)


class Lock:
    """Holds an output for the length of a `with`.

    Args:
        storage: the output.
        take_over: take it from whoever holds it, without watching.
        tell: is given a sentence for the user where there is something to wait for or to know.

    Raises:
        OutputError: on entering, where another run is at work there.
    """

    def __init__(
        self, storage: Storage, *, take_over: bool = False, tell: Callable[[str], None] = log.warning
    ) -> None:
        self.storage = storage
        self.holder = Holder.here()
        self._take_over, self._tell = take_over, tell
        self._over = threading.Event()
        self._lost: Holder | None = None
        self._heart = threading.Thread(target=self._beat, name="lock", daemon=True)

    def __enter__(self) -> Lock:
        if not self.storage.publish(PATH, _document(self.holder)):
            self._wrest(read_holder(self.storage))
        self._heart.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._heart.join()
        if self._lost is None:
            self.storage.remove(PATH)

    def check(self) -> None:
        """Raises BuildError where another run has taken the output over."""
        if self._lost is not None:
            raise BuildError(
                f"{self.storage.url} was taken over by another run ({self._lost}); this one stops, nothing is damaged"
            )

    def _wrest(self, other: Holder | None) -> None:
        if other is not None and not self._take_over and not other.gone:
            self._tell(
                f"{self.storage.url} is locked by {other}; watching for {PATIENCE:.0f} seconds whether it lives"
            )
            end = time.monotonic() + PATIENCE
            while time.monotonic() < end and (now := read_holder(self.storage)) is not None:
                if now != other:
                    raise OutputError(
                        f"{self.storage.url}: another run is at work there ({now}); wait for it or stop it, or take "
                        "over with --take-over. Should both go on, the work is done twice, but nothing is damaged"
                    )
                time.sleep(min(1.0, HEARTBEAT / 5))
        if other is not None:
            self._tell(f"taking over the lock of {other}")
        self.storage.replace(PATH, _document(self.holder))

    def _beat(self) -> None:
        while not self._over.wait(HEARTBEAT):
            try:
                there = read_holder(self.storage)
                if there is not None and there.run != self.holder.run:
                    self._lost = there
                    return
                self.holder = Holder(**{**asdict(self.holder), "heartbeat": _now()})
                self.storage.replace(PATH, _document(self.holder))
            except OSError as error:
                log.warning("no heartbeat could be written to %s: %s", self.storage.url, error)
            except OutputError as error:
                log.warning("no heartbeat: %s", error)


def read_holder(storage: Storage) -> Holder | None:
    """Who holds the lock; None where nobody does, or where it cannot be understood."""
    try:
        document: dict[str, Any] = json.loads(storage.read(PATH))
        return Holder(**document)
    except (OutputError, ValueError, TypeError):
        return None


def _document(holder: Holder) -> bytes:
    return json.dumps(asdict(holder), indent=1).encode()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


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
