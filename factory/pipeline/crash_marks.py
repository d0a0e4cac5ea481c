"""Crash marks in the output: how an item that kills its process is found and set aside.

A stage writes a mark before it works on a shard and removes it afterwards. A mark that remains belongs to a process
that ended in between: because of an item of the shard, or for another reason (a lost machine, an operator, the kernel
out of memory for another process). Only the first is a reason to set an item aside, so the stage looks for evidence:

1. A shard that has three such marks is halved, and so is every part of it that has one: parts are worked on nearly as
   fast as the whole.
2. A part without such a mark comes first, the others in a new random order each time. A part that survived is marked
   as such. If it ends a process later, the cause lies elsewhere, and all marks of the shard are deleted.
3. An item is set aside when it has ended its process three times, alone, each time after another part of the shard had
   survived in the same process.
4. Where processes end again and again and no part ever survives, the run fails: there is no evidence about any item.
"""

from __future__ import annotations

import random
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from actors.errors import Reject, WorkersEndError
from factory.output.layout import CRASH_MARK, CRASH_MARKS
from factory.output.plan import shard_name
from factory.store.storage import Storage

Item = TypeVar("Item")
Done = TypeVar("Done")
Part = tuple[int, int]
"""Places of the first item of a part of a shard, and of the one after its last."""

ENDS_OF_A_SHARD = 3
"""Ends of a process at a whole shard from which on it is worked on in parts."""

ENDS_OF_AN_ITEM = 3
"""Ends of a process at an item that was worked on alone, after which the item is rejected."""

PARTS_OF_A_TRIAL = 8
"""At least, so that what ends processes at a fixed moment seldom meets the same item."""

ENDS_WITHOUT_SURVIVOR = 24
"""Ends of a process in a shard, no part of which ever survived, after which the run fails."""


_RANDOM: random.Random = random.SystemRandom()
"""For the order of parts only; no result depends on it."""


@dataclass
class _Marks:
    """The marks of a shard at a stage, by part."""

    begun: Counter[Part] = field(default_factory=Counter)
    tried: Counter[Part] = field(default_factory=Counter)
    survived: set[Part] = field(default_factory=set)

    def __bool__(self) -> bool:
        return bool(self.begun or self.tried or self.survived)

    def ends(self, part: Part) -> int:
        return self.begun[part] + self.tried[part]

    @property
    def ended(self) -> set[Part]:
        """The parts that have ended a process."""
        return {*self.begun, *self.tried}

    @property
    def contradictory(self) -> bool:
        """Whether items that survived have ended a process, too."""
        return any(_within(ended, survived) for survived in self.survived for ended in self.ended)

    def parts(self, size: int) -> list[Part]:
        """What a shard is worked on as: at once, or in parts; in many where an item is tried alone."""
        whole = (0, size)
        if self.ends(whole) < ENDS_OF_A_SHARD:
            return [whole]
        parts = self._halves(whole)
        if any(self.ends(part) for part in parts):
            while len(parts) < min(PARTS_OF_A_TRIAL, size):
                place = max(range(len(parts)), key=lambda one: parts[one][1] - parts[one][0])
                first, end = parts[place]
                parts[place : place + 1] = [(first, (first + end) // 2), ((first + end) // 2, end)]
        return parts

    def _halves(self, part: Part) -> list[Part]:
        first, end = part
        if end - first < 2 or not any(_within(ended, part) for ended in self.ended):
            return [part]
        middle = (first + end) // 2
        return [*self._halves((first, middle)), *self._halves((middle, end))]


class CrashMarks(Generic[Item, Done]):
    """The crash marks of one stage, and the work that they guard.

    Args:
        storage: the output.
        stage: its name.
        work: what the stage does with items, of a whole shard or a part; one result for every item, in order.
        set_aside: the result for an item that is rejected without any work on it.
        has_work: whether the stage has anything to do for an item; without work, survival is no evidence.
    """

    def __init__(
        self,
        storage: Storage,
        stage: str,
        work: Callable[[list[Item]], list[Done]],
        set_aside: Callable[[Item, Reject], Done],
        has_work: Callable[[Item], bool] = lambda item: True,
    ) -> None:
        self.storage, self.stage, self.work, self.set_aside = storage, stage, work, set_aside
        self.has_work = has_work
        # Marks have names of their own: no run can harm another's, and nothing is lost where they come too late.
        self._marks = Storage(storage.url, storage.patience)

    def __call__(self, shard: int, items: list[Item]) -> list[Done]:
        """Work on a shard, whole or in parts, as the marks require.

        Raises:
            WorkersEndError: processes ended at this shard again and again, whatever they worked on.
            LockLostError: another run has taken the output over; nothing was done.
        """
        self.storage.check()
        marks = self._read(shard)
        if marks.contradictory:
            self._forget(shard)
            marks = _Marks()
        parts = marks.parts(len(items))
        self._check_survival(shard, marks)
        done: dict[int, Done] = {}
        survived = False
        for part in _order(parts, marks):
            group = items[slice(*part)]
            if marks.tried[part] >= ENDS_OF_AN_ITEM:
                results = [self.set_aside(group[0], killed_process(marks.tried[part], self.stage))]
            else:
                kind = "tried" if survived and len(group) == 1 else "begun"
                with self._marked(shard, part, kind):
                    results = self.work(group)
                if any(map(self.has_work, group)):
                    survived = True
                    if len(parts) > 1 and part not in marks.survived:
                        self._put(shard, part, "survived")
            done.update(zip(range(*part), results, strict=True))
        if marks or len(parts) > 1:
            self._forget(shard)
        return [done[place] for place in range(len(items))]

    def _check_survival(self, shard: int, marks: _Marks) -> None:
        ends = marks.begun.total() + marks.tried.total()
        if marks.survived or ends < ENDS_WITHOUT_SURVIVOR:
            return
        self._forget(shard)
        raise WorkersEndError(
            f"{self.storage.url}: {ends} processes ended at stage {self.stage} of shard {shard}, whatever they worked "
            "on, and none finished any part of it: out of memory, a crash in a library, or ended from outside. No item "
            "was rejected for it. Look at the logs of the workers' machines, give the stage more memory "
            f"(execution.{self.stage}.memory) or fewer workers, and run the same command again"
        )

    def _read(self, shard: int) -> _Marks:
        marks = _Marks()
        for match in filter(None, map(CRASH_MARK.fullmatch, self._marks.names(CRASH_MARKS))):
            if (match[1], match[2]) == (shard_name(shard), self.stage):
                part = (int(match[3]), int(match[4]))
                if match[5] == "survived":
                    marks.survived.add(part)
                else:
                    (marks.tried if match[5] == "tried" else marks.begun)[part] += 1
        return marks

    @contextmanager
    def _marked(self, shard: int, part: Part, kind: str) -> Iterator[None]:
        """An exception is not a crash: it removes the mark, too."""
        mark = self._put(shard, part, kind)
        try:
            yield
        finally:
            self._marks.remove(mark)

    def _put(self, shard: int, part: Part, kind: str) -> str:
        first, end = part
        mark = f"{CRASH_MARKS}/{shard_name(shard)}.{self.stage}.{first}-{end}.{kind}.{uuid.uuid4().hex}"
        self._marks.publish(mark, b"")
        return mark

    def _forget(self, shard: int) -> None:
        self.storage.check()  # they may be the marks of a run that has taken over
        for name in self._marks.names(CRASH_MARKS):
            match = CRASH_MARK.fullmatch(name)
            if match and (match[1], match[2]) == (shard_name(shard), self.stage):
                self._marks.remove(f"{CRASH_MARKS}/{name}")


def forget_all(storage: Storage) -> None:
    """Deletes all marks of an output."""
    for name in storage.names(CRASH_MARKS):
        if CRASH_MARK.fullmatch(name):
            storage.remove(f"{CRASH_MARKS}/{name}")
    storage.remove_empty(CRASH_MARKS)


def killed_process(ends: int, stage: str) -> Reject:
    """The reject for an item that is set aside."""
    return Reject(
        "killed_process",
        f"the process that worked on it alone, at stage {stage}, ended {ends} times, while other items of its shard "
        "survived (out of memory, or a crash in a library); look at the item itself",
    )


def _within(part: Part, other: Part) -> bool:
    return other[0] <= part[0] and part[1] <= other[1]


def _order(parts: Sequence[Part], marks: _Marks) -> list[Part]:
    """A part without a mark first, as a control; the others in a new random order each time.

    So a crash at a fixed moment of a process's life does not always hit the same part.
    """
    order = _RANDOM.sample(parts, len(parts))
    first = next((part for part in order if not marks.ends(part)), order[0])
    order.remove(first)
    return [first, *order]
