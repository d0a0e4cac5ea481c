"""Progress within shards: workers report how many items of a shard each step has finished, the driver shows it.

For display only. No output depends on it, and a lost report is not an error.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from typing import Any

from actors.stage_names import StageName

log = logging.getLogger(__name__)

STEPS = (StageName.LOAD, StageName.SELECT, StageName.INVERT, StageName.CORRUPT, StageName.PREDICT)
"""In the order in which an item goes through them. The corruption stage reports two: inversion, and corruption."""

SECONDS_BETWEEN_REPORTS = 1.0
"""Of one worker. The driver looks as often."""

SECONDS_BEFORE_BOARD = 10.0
"""Without a published shard, before progress within shards is shown."""

_KEPT = 8
"""Shards whose counts a worker keeps until there is a board."""


class Board:
    """A Ray actor that holds the counts of the shards in flight.

    A shard that is made again after a lost worker replaces its earlier counts.

    Args:
        published: shards that are no longer in flight.
    """

    def __init__(self, published: Collection[int] = ()) -> None:
        self._counts: dict[int, dict[str, int]] = {}
        self._published = set(published)

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

    Without Ray it reports nothing. Until its output has a `Board` it keeps the counts of its last few shards.

    Args:
        url: the output.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._board: Any = None
        self._shard, self._counts = -1, Counter[str]()
        self._unsent: dict[int, Counter[str]] = {}
        self._reported = 0.0
        self._lock = threading.Lock()

    @contextmanager
    def shard(self, number: int) -> Iterator[None]:
        """Counts a shard from zero, and reports the rest of its counts at the end."""
        with self._lock:
            self._shard, self._counts = number, Counter[str]()
        yield
        with self._lock:
            self._report(again=self._board is not None)

    def add(self, step: str, items: int) -> None:
        """Counts finished items of a step in `STEPS`. Any thread may call it."""
        with self._lock:
            self._counts[step] += items
            self._unsent[self._shard] = self._counts
            if len(self._unsent) > _KEPT:
                del self._unsent[next(iter(self._unsent))]
            self._report()

    def _report(self, *, again: bool = False) -> None:
        """Sends what is unsent, if the last report was a second ago or `again` is set."""
        now = time.monotonic()
        if not self._unsent or (now - self._reported < SECONDS_BETWEEN_REPORTS and not again):
            return
        self._reported = now
        self._board = self._board or _find(self._url)
        if self._board is None:
            return
        with _harmless():
            for shard, counts in self._unsent.items():
                self._board.put.remote(shard, dict(counts))
            self._unsent.clear()


@contextmanager
def watching(url: str, show: Callable[[Mapping[str, int]], None]) -> Iterator[Callable[[int], None]]:
    """Passes on the progress within shards every second while a pass over an output goes on; without Ray, nothing.

    The board is a process, so it is started only when no shard has been published for `SECONDS_BEFORE_BOARD`.

    Args:
        url: the output.
        show: called with the items of shards in flight, by step; at the end with nothing.

    Yields:
        To be called with the number of a shard that was published: it is no longer in flight.
    """
    import ray

    if not ray.is_initialized():
        yield lambda shard: None
        return
    board: Any = None
    done: set[int] = set()
    last_published = time.monotonic()
    over, lock = threading.Event(), threading.Lock()

    def look() -> None:
        nonlocal board
        while not over.wait(SECONDS_BETWEEN_REPORTS):
            with _harmless():  # a board that is lost with its node comes back empty
                with lock:
                    if board is None and time.monotonic() - last_published >= SECONDS_BEFORE_BOARD:
                        options = {
                            "name": _name(url),
                            "num_cpus": 0,
                            "get_if_exists": True,
                            "max_restarts": -1,
                        }
                        board = ray.remote(Board).options(**options).remote(done)
                if board is not None:
                    show(ray.get(board.total.remote(), timeout=10))

    def published(shard: int) -> None:
        nonlocal last_published
        with lock:
            done.add(shard)
            last_published = time.monotonic()
            if board is not None:
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
        if board is not None:
            with _harmless():
                ray.kill(board)


def _name(url: str) -> str:
    return f"flawforge-in-flight-{sha256(url.encode()).hexdigest()[:16]}"


def _find(url: str) -> Any:
    import ray

    board = None
    if ray.is_initialized():
        with _harmless():  # outside a build there is no board
            board = ray.get_actor(_name(url))
    return board


@contextmanager
def _harmless() -> Iterator[None]:
    """Nothing that goes wrong with progress, in any of Ray's many kinds of errors, is a reason to lose a shard."""
    try:
        yield
    except Exception as error:
        log.debug("no progress within shards: %r", error)
