"""A cache that forgets what was used longest ago, for several threads that want the same things at the same time."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class BoundedCache(Generic[Key, Value]):
    """Loads a value when it is first wanted, once for all threads that wait for it.

    Args:
        load: called outside the lock. What it raises reaches all who wait, and is not kept.
        most: weight of all values above which the oldest are forgotten, the last one never.
        weigh: weight of a value.
    """

    def __init__(
        self, load: Callable[[Key], Value], most: int, weigh: Callable[[Value], int] = lambda value: 1
    ) -> None:
        self._load, self._most, self._weigh = load, most, weigh
        self._lock = threading.Lock()
        self._held: OrderedDict[Key, Future[Value]] = OrderedDict()
        self._weights: dict[Key, int] = {}
        self._weight = 0

    def get(self, key: Key) -> Value:
        """The value of a key."""
        with self._lock:
            future = self._held.get(key)
            if future is not None:
                self._held.move_to_end(key)
                mine = False
            else:
                future = self._held[key] = Future()
                mine = True
        if mine:
            self._fill(key, future)
        return future.result()

    def _fill(self, key: Key, future: Future[Value]) -> None:
        try:
            value = self._load(key)
        except BaseException as error:
            with self._lock:
                del self._held[key]
            future.set_exception(error)
            return
        future.set_result(value)
        with self._lock:
            self._weights[key] = self._weigh(value)
            self._weight += self._weights[key]
            for oldest in list(self._held):
                if self._weight <= self._most or len(self._weights) == 1:
                    break
                if oldest in self._weights:  # not what another thread is loading at this moment
                    del self._held[oldest]
                    self._weight -= self._weights.pop(oldest)
