"""SIGTERM ends a run as Ctrl-C does: what is published stays, the lock is given back, the next run goes on."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Terminated(KeyboardInterrupt):
    """The process received SIGTERM, which clusters and spot machines send shortly before they kill."""


@contextmanager
def heeded() -> Iterator[None]:
    """Raises `Terminated` in the main thread on SIGTERM, once; in another thread this does nothing.

    Enter it after Ray has started, which sets a handler of its own.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(signum: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise Terminated

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)
