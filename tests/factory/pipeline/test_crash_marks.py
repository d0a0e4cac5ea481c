"""Marks of begun work, by hand: a process that ends is played by work that raises past the marks."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from actors.errors import LockLostError, Reject, WorkersEndError
from factory.output.layout import CRASH_MARKS
from factory.output.lock import PATH as LOCK
from factory.output.lock import Lock
from factory.pipeline.crash_marks import (
    ENDS_OF_A_SHARD,
    ENDS_OF_AN_ITEM,
    ENDS_WITHOUT_SURVIVOR,
    CrashMarks,
    forget_all,
)
from factory.store.storage import Storage

Kill = Callable[[list[str]], bool]


class World:
    """A stage whose process may be ended by an item or from outside, and the marks that it leaves.

    Args:
        kill: whether the process ends while it works on these items.

    Attributes:
        worked: the groups of items that were worked on.
    """

    def __init__(self, folder: Path, kill: Kill) -> None:
        self.storage, self.kill, self.folder = Storage(str(folder)), kill, folder
        self.worked: list[list[str]] = []

    def run(self, items: list[str], shard: int = 7, stage: str = "corrupt") -> list[str] | None:
        """None where the process ended: then its marks are put back, as nobody could take them away."""
        kept: list[Path] = []

        def work(group: list[str]) -> list[str]:
            self.worked.append(group)
            if self.kill(group):
                kept.extend(self.folder.glob(f"{CRASH_MARKS}/*"))
                raise EOFError
            return [item.upper() for item in group]

        def set_aside(item: str, why: Reject) -> str:
            return f"{item}: {why.reason}, {why.detail}"

        try:
            return CrashMarks(self.storage, stage, work, set_aside, str.islower)(shard, items)
        except EOFError:
            for path in kept:
                path.write_bytes(b"")
            return None

    def finish(self, items: list[str], most: int = 100) -> tuple[list[str], int]:
        """What comes out in the end, and how often the process ended before."""
        for ends in range(most):
            done = self.run(items)
            if done is not None:
                return done, ends
        raise AssertionError("it never ended")

    @property
    def marks(self) -> list[str]:
        return sorted(path.name.rsplit(".", 1)[0] for path in self.folder.rglob(f"{CRASH_MARKS}/*"))


def poison(*items: str) -> Kill:
    return lambda group: any(item in items for item in group)


def never(group: list[str]) -> bool:
    return False


SHARD = [chr(ord("a") + place) for place in range(16)]


def test_work_leaves_no_mark(tmp_path: Path):
    world = World(tmp_path, never)
    assert world.run(["a", "b"]) == ["A", "B"]
    assert world.worked == [["a", "b"]] and world.marks == []


@pytest.mark.parametrize("items", [("b",), ("a",), ("p",), ("c", "d"), ("a", "h", "p")])
def test_items_that_end_their_process_are_set_aside_and_the_others_are_done(
    tmp_path: Path, items: tuple[str, ...]
):
    world = World(tmp_path, poison(*items))
    done, ends = world.finish(SHARD)
    for item, result in zip(SHARD, done, strict=True):
        if item in items:
            assert result.startswith(
                f"{item}: killed_process, the process that worked on it alone, at stage corrupt, ended 3 times, while"
            )
        else:
            assert result == item.upper()
    # Each was alone, and something of the shard had survived in that process, before each of its last three ends.
    for item in items:
        assert world.worked.count([item]) >= ENDS_OF_AN_ITEM
    # Three times the whole, halves down to one of sixteen, the trials, and what met another of them before.
    assert ends <= ENDS_OF_A_SHARD + len(items) * (4 + ENDS_OF_AN_ITEM + 1)
    assert world.marks == []


def test_an_item_is_not_blamed_without_a_survivor_before_it(tmp_path: Path):
    """Every process ends at the first thing that it works on, whatever that is."""
    world = World(tmp_path, lambda group: True)
    assert [world.run(SHARD) for _ in range(ENDS_WITHOUT_SURVIVOR)] == [None] * ENDS_WITHOUT_SURVIVOR
    with pytest.raises(
        WorkersEndError, match=r"24 processes ended at stage corrupt of shard 7.* No item was rejected"
    ):
        world.run(SHARD)
    world.kill = never
    assert world.finish(SHARD) == ([item.upper() for item in SHARD], 0), "a rerun begins afresh"


def test_items_that_had_no_work_are_no_control(tmp_path: Path):
    """Those in capitals are rejected already: that they survive says nothing."""
    shard = ["A", "B", "c", "D"]
    world = World(tmp_path, poison("c"))
    for _ in range(ENDS_WITHOUT_SURVIVOR):
        assert world.run(shard) is None
    with pytest.raises(WorkersEndError):
        world.run(shard)


class Killer:
    """Ends processes from outside: at a whole shard, and once there are parts, at a fixed moment of each or at any.

    Attributes:
        left: how often it still does.
    """

    def __init__(self, kills: int, moment: str, seed: int) -> None:
        self.left, self.moment, self.draw = kills, moment, random.Random(seed)
        self.groups: list[list[str]] = []

    def __call__(self, group: list[str]) -> bool:
        self.groups.append(group)
        begun = sum(map(len, self.groups))
        hit = {
            "first": len(self.groups) == 1,
            "second": len(self.groups) == 2,
            "middle": begun - len(group) <= len(SHARD) // 2 < begun,
            "last": begun == len(SHARD),
            "any": self.draw.random() < 1 / 3,
        }
        if self.left and (len(group) == len(SHARD) or hit[self.moment]):
            self.left -= 1
            self.groups = []
            return True
        if begun == len(SHARD):
            self.groups = []
        return False


@pytest.mark.parametrize("kills", [2, 3, 12, 20])
@pytest.mark.parametrize("moment", ["first", "second", "middle", "last", "any"])
def test_kills_from_outside_blame_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kills: int, moment: str
):
    monkeypatch.setattr("factory.pipeline.crash_marks._RANDOM", random.Random(kills))
    world = World(tmp_path, Killer(kills, moment, kills))
    done, ends = world.finish(SHARD)
    assert done == [item.upper() for item in SHARD] and ends <= kills
    assert world.marks == []


def test_three_kills_do_not_lead_to_work_item_by_item(tmp_path: Path):
    left = [3]

    def kill(group: list[str]) -> bool:
        left[0] -= 1
        return left[0] >= 0

    world = World(tmp_path, kill)
    assert world.finish(SHARD) == ([item.upper() for item in SHARD], 3)
    assert world.worked[:3] == [SHARD] * 3 and sorted(world.worked[3:]) == [SHARD[:8], SHARD[8:]]


def test_a_part_that_survived_and_then_ended_its_process_clears_them_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    # The second half comes first, when halves come.
    monkeypatch.setattr("factory.pipeline.crash_marks._RANDOM", random.Random(1))
    world = World(tmp_path, poison("a"))
    while "000007.corrupt.8-16.survived" not in world.marks:
        assert world.run(SHARD) is None
    # The other half, which has survived, meets a kill from outside.
    world.kill = poison("p")
    assert world.run(SHARD) is None
    world.kill = never
    world.worked.clear()
    assert world.run(SHARD) == [item.upper() for item in SHARD]
    assert world.worked == [SHARD]


def test_stages_and_shards_have_their_own_marks(tmp_path: Path):
    world = World(tmp_path, poison("a"))
    for _ in range(ENDS_OF_A_SHARD):
        world.run(["a"])
    world.kill = never
    world.worked.clear()
    world.run(["a", "b"], stage="select")
    world.run(["a", "b"], shard=8)
    assert world.worked == [["a", "b"]] * 2
    assert world.marks == ["000007.corrupt.0-1.begun"] * ENDS_OF_A_SHARD
    forget_all(world.storage)
    assert list(tmp_path.iterdir()) == []


def test_an_error_is_no_end_of_a_process(tmp_path: Path):
    world = World(tmp_path, never)

    def work(group: list[str]) -> list[str]:
        raise OSError("no space left")

    for _ in range(ENDS_OF_A_SHARD + 1):
        with pytest.raises(OSError, match="no space left"):
            CrashMarks(world.storage, "corrupt", work, lambda item, why: item)(7, ["a"])
    assert world.marks == []


def test_a_run_that_lost_the_lock_does_no_work(tmp_path: Path):
    worked: list[str] = []

    def work(group: list[str]) -> list[str]:
        worked.extend(group)
        return group

    with Lock(Storage(str(tmp_path))) as lock:
        crash_marks = CrashMarks(lock.storage, "corrupt", work, lambda item, why: item)
        crash_marks(0, ["a"])
        (tmp_path / LOCK).write_text('{"run": "another"}')
        with pytest.raises(LockLostError):
            crash_marks(0, ["b"])
    assert worked == ["a"]


def test_a_run_that_lost_the_lock_leaves_the_marks_of_its_successor(tmp_path: Path):
    ours, theirs = (f"{CRASH_MARKS}/000007.corrupt.0-1.begun.{letter * 32}" for letter in "ab")
    storage = Storage(str(tmp_path))
    storage.publish(ours, b"")

    def work(group: list[str]) -> list[str]:
        (tmp_path / LOCK).write_text('{"run": "another"}')
        storage.publish(theirs, b"")
        return group

    with Lock(storage) as lock, pytest.raises(LockLostError):
        CrashMarks(lock.storage, "corrupt", work, lambda item, why: item)(7, ["a"])
    assert storage.exists(theirs)
