"""The fence of an output: a run that lost the lock writes and deletes nothing more."""

from __future__ import annotations

import json
from collections.abc import Callable

from actors.errors import LockLostError, OutputError

LOCK = "lock.json"
"""The lock's file. It is created by the run that takes the lock and never rewritten; see `factory.lock`."""

Check = Callable[[], None]


def unfenced() -> None:
    """The check of readers, and of tests that hold no lock."""


class Fence:
    """Reads the lock, and raises unless this run still holds it.

    Storage calls it immediately before and immediately after every change. A run may be stopped between the check
    before a change and the change itself; the check after it is how such a run notices, and undoes the change.

    Args:
        read: reads a file of the output.
        url: the output, for messages.
        run: the holder's name in the lock, see `factory.lock.Holder`.
    """

    def __init__(self, read: Callable[[str], bytes], url: str, run: str) -> None:
        self.read, self.url, self.run = read, url, run

    def __call__(self) -> None:
        """Raises LockLostError where another run, or no run, holds the lock."""
        holder = holder_of(self.read)
        if holder.get("run") == self.run:
            return
        by = (
            f"was taken over by another run ({describe(holder)})"
            if holder
            else "is no longer locked by this run"
        )
        raise LockLostError(f"{self.url} {by}; this one stops, nothing is damaged")


def holder_of(read: Callable[[str], bytes]) -> dict[str, object]:
    """The lock's document; empty where it is missing or damaged."""
    try:
        document = json.loads(read(LOCK))
    except (OutputError, ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def describe(holder: dict[str, object]) -> str:
    """A lock's document in words."""
    return f"process {holder.get('pid')} on {holder.get('host')}, since {holder.get('began')}"
