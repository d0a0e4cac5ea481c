"""Marks of work, by hand: a process that ends is played by work that raises past the marks."""

from __future__ import annotations

from pathlib import Path

import pytest

from actors.errors import Reject
from factory.attempts import DEATHS_OF_A_SHARD, DEATHS_OF_AN_ITEM, FOLDER, Attempts
from factory.storage import Storage


class World:
    """A stage in which one item ends the process, and the marks that it leaves.

    Attributes:
        worked: the groups of items that were worked on.
    """

    def __init__(self, folder: Path, poison: str = "") -> None:
        self.storage, self.poison, self.folder = Storage(str(folder)), poison, folder
        self.worked: list[list[str]] = []

    def run(self, items: list[str], shard: int = 7, stage: str = "corrupt") -> list[str] | None:
        """None where the process ended: then its marks are put back, as nobody could take them away."""
        kept: list[Path] = []

        def work(group: list[str]) -> list[str]:
            self.worked.append(group)
            if self.poison in group:
                kept.extend(path for path in self.folder.rglob(f"{FOLDER}/*/*"))
                raise EOFError
            return [item.upper() for item in group]

        def set_aside(item: str, why: Reject) -> str:
            return f"{item}: {why.reason}, {why.detail}"

        try:
            return Attempts(self.storage, stage, work, set_aside)(shard, items)
        except EOFError:
            for path in kept:
                path.write_bytes(b"")
            return None

    @property
    def marks(self) -> list[str]:
        return sorted(path.name.rsplit(".", 1)[0] for path in self.folder.rglob(f"{FOLDER}/*/*"))


def test_work_leaves_no_mark(tmp_path: Path):
    world = World(tmp_path)
    assert world.run(["a", "b"]) == ["A", "B"]
    assert world.worked == [["a", "b"]] and world.marks == []


def test_an_item_that_ends_its_process_is_set_aside_and_the_others_are_done(tmp_path: Path):
    world = World(tmp_path, poison="b")
    deaths = DEATHS_OF_A_SHARD + DEATHS_OF_AN_ITEM
    assert [world.run(["a", "b", "c"]) for _ in range(deaths)] == [None] * deaths
    assert world.marks == ["corrupt.1"] * DEATHS_OF_AN_ITEM + ["corrupt.all"] * DEATHS_OF_A_SHARD
    first, second, third = world.run(["a", "b", "c"]) or []
    assert (first, third) == ("A", "C")
    assert second.startswith(
        "b: killed_process, the process that worked on it alone, at stage corrupt, ended 3 times"
    )
    assert world.worked[:DEATHS_OF_A_SHARD] == [["a", "b", "c"]] * DEATHS_OF_A_SHARD
    assert ["b"] not in world.worked[-2:]
    assert world.marks == []


def test_a_few_kills_from_outside_change_nothing(tmp_path: Path):
    world = World(tmp_path, poison="b")
    assert [world.run(["a", "b"]) for _ in range(DEATHS_OF_A_SHARD - 1)] == [None] * (DEATHS_OF_A_SHARD - 1)
    world.poison = ""
    assert world.run(["a", "b"]) == ["A", "B"]
    assert world.marks == []


def test_stages_and_shards_have_their_own_marks(tmp_path: Path):
    world = World(tmp_path, poison="a")
    for _ in range(DEATHS_OF_A_SHARD):
        world.run(["a"])
    world.poison = ""
    world.worked.clear()
    world.run(["a", "b"], stage="select")
    world.run(["a", "b"], shard=8)
    assert world.worked == [["a", "b"]] * 2
    assert world.marks == ["corrupt.all"] * DEATHS_OF_A_SHARD


def test_an_error_is_no_death(tmp_path: Path):
    world = World(tmp_path)

    def work(group: list[str]) -> list[str]:
        raise OSError("no space left")

    for _ in range(DEATHS_OF_A_SHARD + 1):
        with pytest.raises(OSError, match="no space left"):
            Attempts(world.storage, "corrupt", work, lambda item, why: item)(7, ["a"])
    assert world.marks == []
