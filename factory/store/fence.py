"""The fence of an output: a run that lost the lock writes and deletes nothing more."""

from __future__ import annotations

import json
from collections.abc import Callable

from actors.errors import LockLostError, OutputError

LOCK = "lock.json"
"""The lock's file. It is created by the run that takes the lock and never rewritten; see `factory.output.lock`."""

Check = Callable[[], None]


def unfenced() -> None:
    """The check of readers, and of tests that hold no lock."""


class Fence:
    """Reads the lock, and raises unless this run still holds it.

    Storage calls it immediately before and immediately after every change. A run may be stopped between the check
    before a change and the change itself; the check after it is how such a run notices, and undoes the change.

    Args:
        read: reads a file of the output.
        exists: whether the output has a file.
        url: the output, for messages.
        run: the holder's name in the lock, see `factory.output.lock.Holder`.
    """

    def __init__(
        self, read: Callable[[str], bytes], exists: Callable[[str], bool], url: str, run: str
    ) -> None:
        self.read, self.exists, self.url, self.run = read, exists, url, run

    def __call__(self) -> None:
        """Checks that this run holds the lock.

        Raises:
            LockLostError: another run, or no run, holds it.
            OutputError: the lock cannot be read at this moment, so that its holder is unknown.
        """
        holder = holder_of(self.read, self.exists)
        if holder.get("run") == self.run:
            return
        by = (
            f"was taken over by another run ({describe(holder)})"
            if holder
            else "is no longer locked by this run"
        )
        raise LockLostError(f"{self.url} {by}; this one stops, nothing is damaged")


def holder_of(read: Callable[[str], bytes], exists: Callable[[str], bool]) -> dict[str, object]:
    """The lock's document; empty where it is missing or damaged.

    Raises:
        OutputError: it cannot be read: a failing store does not mean that the lock is gone.
    """
    try:
        data = read(LOCK)
    except OutputError:
        if not exists(LOCK):
            return {}
        data = read(LOCK)
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def describe(holder: dict[str, object]) -> str:
    """A lock's document in words."""
    return f"process {holder.get('pid')} on {holder.get('host')}, since {holder.get('began')}"
