"""Marks of work that was begun, beside the output: how an item that kills its process is found and set aside.

A stage puts a mark before it works on a shard and takes it away after. A mark that stays tells of a process that ended
in between. Where several stay, the stage works on the shard item by item, each with marks of its own, and an item that
has ended the process again and again is rejected. So are kills from outside survived: they hit one item but once.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

from actors.errors import Reject
from factory.plan import shard_name
from factory.storage import Storage

Item = TypeVar("Item")
Done = TypeVar("Done")

FOLDER = "attempts"
DEATHS_OF_A_SHARD = 3
"""From so many on the stage works item by item."""

DEATHS_OF_AN_ITEM = 3
"""From so many on, each of them while the item was alone, it is rejected."""

_WHOLE = "all"


class Attempts(Generic[Item, Done]):
    """The marks of one stage, and its work between them.

    Args:
        storage: the output.
        stage: its name.
        work: what the stage does with items, of a whole shard or a single one; one result for every item, in order.
        set_aside: the result for an item that is rejected without any work.
    """

    def __init__(
        self,
        storage: Storage,
        stage: str,
        work: Callable[[list[Item]], list[Done]],
        set_aside: Callable[[Item, Reject], Done],
    ) -> None:
        self.storage, self.stage, self.work, self.set_aside = storage, stage, work, set_aside

    def __call__(self, shard: int, items: list[Item]) -> list[Done]:
        """Works on a shard, at once or item by item, as the marks advise."""
        deaths = self._deaths(shard)
        if deaths[_WHOLE] < DEATHS_OF_A_SHARD:
            with self._marked(shard, _WHOLE):
                done = self.work(items)
        else:
            done = [
                self._alone(shard, str(place), item, deaths[str(place)]) for place, item in enumerate(items)
            ]
        if deaths:
            self._forget(shard)
        return done

    def _alone(self, shard: int, place: str, item: Item, deaths: int) -> Done:
        if deaths >= DEATHS_OF_AN_ITEM:
            return self.set_aside(item, killed_process(deaths, self.stage))
        with self._marked(shard, place):
            (done,) = self.work([item])
        return done

    def _deaths(self, shard: int) -> Counter[str]:
        """How often the process ended in this stage, by the item's place in the shard, or while at the whole one."""
        marks = (name.split(".") for name in self.storage.names(_folder(shard)))
        return Counter(place for stage, place, _ in marks if stage == self.stage)

    @contextmanager
    def _marked(self, shard: int, place: str) -> Iterator[None]:
        """An error is no death: it takes the mark away too."""
        mark = f"{_folder(shard)}/{self.stage}.{place}.{uuid.uuid4().hex}"
        self.storage.publish(mark, b"")
        try:
            yield
        finally:
            self.storage.remove(mark)

    def _forget(self, shard: int) -> None:
        for name in self.storage.names(_folder(shard)):
            if name.startswith(f"{self.stage}."):
                self.storage.remove(f"{_folder(shard)}/{name}")


def killed_process(deaths: int, stage: str) -> Reject:
    """The reject for an item that is set aside."""
    return Reject(
        "killed_process",
        f"the process that worked on it alone, at stage {stage}, ended {deaths} times (out of memory, or a crash in a "
        "library); look at the item itself",
    )


def _folder(shard: int) -> str:
    return f"{FOLDER}/{shard_name(shard)}"
