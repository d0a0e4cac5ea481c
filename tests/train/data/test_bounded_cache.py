"""The cache of the reader: what it forgets, and that threads wait for one load."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.patience import until
from train.data.bounded_cache import BoundedCache


def test_the_one_used_longest_ago_is_forgotten() -> None:
    loaded: list[str] = []

    def load(key: str) -> str:
        loaded.append(key)
        return key.upper()

    cache = BoundedCache(load, 2)
    assert [cache.get(key) for key in "abacab"] == list("ABACAB")
    assert loaded == list("abcb")  # c took the place of b, and a was used again before


def test_weights_count_and_the_last_one_stays() -> None:
    loaded: list[int] = []

    def load(key: int) -> int:
        loaded.append(key)
        return key

    cache = BoundedCache(load, 10, lambda value: value)
    for key in (4, 5, 4, 5, 2, 5, 4, 50, 50, 4):
        assert cache.get(key) == key
    assert loaded == [4, 5, 2, 4, 50, 4]


def test_threads_wait_for_one_load() -> None:
    began, go_on = threading.Semaphore(0), threading.Event()

    def load(key: str) -> object:
        began.release()
        assert go_on.wait(60)
        return object()

    cache = BoundedCache(load, 4)
    with ThreadPoolExecutor(6) as pool:
        found = [pool.submit(cache.get, "a") for _ in range(5)]
        other = pool.submit(cache.get, "b")  # not kept waiting by the load of a
        until(lambda: began.acquire(blocking=False))
        until(lambda: began.acquire(blocking=False))
        go_on.set()
        assert len({id(one.result()) for one in found}) == 1 and other.result() is not found[0].result()
    assert not began.acquire(blocking=False)


def test_an_error_reaches_the_caller_and_is_not_kept() -> None:
    errors = [OSError("first"), None]

    def load(key: str) -> str:
        error = errors.pop(0)
        if error:
            raise error
        return key

    cache = BoundedCache(load, 4)
    with pytest.raises(OSError, match="first"):
        cache.get("a")
    assert cache.get("a") == "a"
