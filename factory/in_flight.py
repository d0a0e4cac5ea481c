"""Progress within shards: workers report how many items of a shard each step has finished, the driver shows it.

For display only. Nothing that is made depends on it, and a lost report is no error.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from typing import Any

log = logging.getLogger(__name__)

STEPS = ("load", "select", "invert", "corrupt")
"""In the order in which an item goes through them. The corruption stage reports two: inversion, and corruption."""

SECONDS_BETWEEN_REPORTS = 1.0
"""Of one worker. The driver looks as often."""


class Board:
    """A Ray actor that holds the counts of the shards in flight.

    A shard that is made again after a lost worker replaces its earlier counts.
    """

    def __init__(self) -> None:
        self._counts: dict[int, dict[str, int]] = {}
        self._published: set[int] = set()

    def put(self, shard: int, counts: Mapping[str, int]) -> None:
        """Sets the finished items of a shard by step; too late for a published shard."""
        if shard not in self._published:
            self._counts.setdefault(shard, {}).update(counts)

    def published(self, shard: int) -> None:
        """This shard is no longer in flight."""
        self._published.add(shard)
        self._counts.pop(shard, None)

    def total(self) -> dict[str, int]:
        """Finished items of all shards in flight, by step."""
        total: Counter[str] = Counter()
        for counts in self._counts.values():
            total.update(counts)
        return {step: total[step] for step in STEPS if total[step]}


class ItemCounter:
    """Counts the items that a worker has finished of its shard, and reports them at most once a second.

    Without a Ray, or without a `Board` of this output, it reports nothing.

    Args:
        url: the output.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._board: Any = None
        self._shard = -1
        self._counts: Counter[str] = Counter()
        self._reported = 0.0
        self._lock = threading.Lock()

    @contextmanager
    def shard(self, number: int) -> Iterator[None]:
        """Counts a shard from zero, and reports the rest of its counts at the end."""
        with self._lock:
            self._shard, self._counts, self._reported = number, Counter(), 0.0
            self._board = self._board or _find(self._url)
        yield
        with self._lock:
            self._report()

    def add(self, step: str, items: int) -> None:
        """Counts finished items of a step in `STEPS`. Any thread may call it."""
        with self._lock:
            self._counts[step] += items
            if time.monotonic() - self._reported >= SECONDS_BETWEEN_REPORTS:
                self._report()

    def _report(self) -> None:
        self._reported = time.monotonic()
        if self._board is None or not self._counts:
            return
        with _harmless():
            self._board.put.remote(self._shard, dict(self._counts))


@contextmanager
def watching(url: str, show: Callable[[Mapping[str, int]], None]) -> Iterator[Callable[[int], None]]:
    """Passes on the progress within shards every second while a pass over an output goes on; without Ray, nothing.

    Args:
        url: the output.
        show: called with the items of shards in flight, by step; at the end with nothing.

    Yields:
        To be called with the number of a shard that was published: it is no longer in flight.
    """
    import ray

    board: Any = None
    if ray.is_initialized():
        options = {"name": _name(url), "num_cpus": 0, "get_if_exists": True, "max_restarts": -1}
        with _harmless():
            board = ray.remote(Board).options(**options).remote()
    if board is None:
        yield lambda shard: None
        return
    over = threading.Event()

    def look() -> None:
        while not over.wait(SECONDS_BETWEEN_REPORTS):
            with _harmless():  # a board that is lost with its node comes back empty
                show(ray.get(board.total.remote(), timeout=10))

    def published(shard: int) -> None:
        with _harmless():
            board.published.remote(shard)

    thread = threading.Thread(target=look, name="in-flight", daemon=True)
    thread.start()
    try:
        yield published
    finally:
        over.set()
        thread.join()
        show({})
        with _harmless():
            ray.kill(board)


def _name(url: str) -> str:
    return f"flawforge-in-flight-{sha256(url.encode()).hexdigest()[:16]}"


def _find(url: str) -> Any:
    import ray

    board = None
    if ray.is_initialized():
        with _harmless():  # a stage outside a build finds none
            board = ray.get_actor(_name(url))
    return board


@contextmanager
def _harmless() -> Iterator[None]:
    """Nothing that goes wrong with progress, in any of Ray's many kinds of errors, is a reason to lose a shard."""
    try:
        yield
    except Exception as error:
        log.debug("no progress within shards: %r", error)
