"""Runs that lose the lock while they are stopped in the middle of a change: they publish and delete nothing.

A run is stopped after it has looked at the lock and before the change itself, so that only what it does after waking up
can help. Another one takes the output over and finishes; then the first one goes on.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from factory.build import Mode, build
from factory.care.merge import merge
from factory.care.rebuild import rebuild
from factory.care.split import split
from factory.shards.check import verify
from factory.storage import Storage
from tests.factory.pausing import paused, recipe_of, without_ray

Begin = Callable[[Path], object]


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    without_ray(monkeypatch.setitem, monkeypatch.setattr)


def files_of(out: Path, *, hidden: bool = True) -> dict[str, str]:
    """sha256 of every file but the runs' own records, and of sidecars all but the seconds."""
    found = {}
    for path in sorted(path for path in out.rglob("*") if path.is_file()):
        if path.name.startswith(".") and not hidden:
            continue
        name, data = path.relative_to(out).as_posix(), path.read_bytes()
        if name.startswith("stats/"):
            data = json.dumps({**json.loads(data), "seconds": {}}).encode()
        if not name.startswith("runs/"):
            found[name] = hashlib.sha256(data).hexdigest()
    return found


def same_as(out: Path, other: Path, *, hidden: bool = True) -> None:
    """Both are complete and sound, and equal file by file: nothing is mixed, missing or left over.

    Args:
        hidden: also what a run has written aside; not while it is stopped.
    """
    assert files_of(out, hidden=hidden) == files_of(other)
    assert verify(Storage(str(out))).sound
    assert json.loads((out / "manifest.json").read_text())["complete"]


NEW = "build(recipe_of(1, 11), OUT)"
AGAIN = "build(recipe_of(1, 11), OUT, mode=Mode.OVERWRITE)"


@pytest.mark.parametrize(
    ("call", "path", "command"),
    [
        ("link", r"plan\.parquet", NEW),
        ("link", r"recipe\.yaml", NEW),
        ("link", r"identity\.json", NEW),
        ("link", r"shards/000001\.tar", NEW),
        ("link", r"index/000001\.parquet", NEW),
        ("link", r"stats/000001\.json", NEW),
        # Of a shard that the second run's plan does not have.
        ("link", r"shards/000003\.tar", NEW),
        ("link", r"stats/000003\.json", NEW),
        ("replace", r"manifest\.json", NEW),
        ("replace", r"README\.md", NEW),
        ("link", r"plan\.parquet", AGAIN),
        ("rename", r"stats/000001\.json", AGAIN),
        ("rename", r"shards/000001\.tar", AGAIN),
        ("rename", r"plan\.parquet", AGAIN),
        ("rename", r"identity\.json", AGAIN),
        ("rename", r"manifest\.json", AGAIN),
    ],
)
def test_another_recipe_takes_over(tmp_path: Path, call: str, path: str, command: str):
    out, alone = tmp_path / "out", tmp_path / "alone"
    if command == AGAIN:
        build(recipe_of(0, 5), str(out))
    first = paused(call, path, command.replace("OUT", repr(str(out))))
    build(recipe_of(2), str(out), mode=Mode.OVERWRITE)
    build(recipe_of(2), str(alone))
    same_as(out, alone, hidden=False)
    assert first.go_on() == "LockLostError"
    same_as(out, alone)
