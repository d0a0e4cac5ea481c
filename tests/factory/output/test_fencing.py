"""Runs that lose the lock while they are stopped in the middle of a change: they publish and delete nothing.

A run is stopped after it has looked at the lock and before the change itself, so that only what it does after waking up
can help. Another one takes the output over and finishes; then the first one goes on.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from factory.build import Mode, build
from factory.maintain.merge import merge
from factory.maintain.split import split
from factory.maintain.verify import verify
from factory.store.storage import Storage
from tests.factory.output.pausing import paused, recipe_of, without_ray


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    without_ray(monkeypatch.setitem, monkeypatch.setattr)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Outputs that nobody disturbed, by the name of their recipe."""
    folder = tmp_path_factory.mktemp("undisturbed")
    with pytest.MonkeyPatch.context() as patch:
        without_ray(patch.setitem, patch.setattr)
        for recipe in (recipe_of(2), recipe_of(1, 11)):
            build(recipe, str(folder / recipe.name))
    return {out.name: out for out in folder.iterdir()}


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
        ("publish", r"shards/000001\.tar", NEW),
        ("publish", r"stats/000000\.json", NEW),
        ("publish", r"shards/000003\.tar", NEW),
        ("publish", r"attempts/000002\.corrupt.*", NEW),
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
def test_another_recipe_takes_over(
    tmp_path: Path, undisturbed: dict[str, Path], call: str, path: str, command: str
):
    out, alone = tmp_path / "out", undisturbed["seed-2"]
    if command == AGAIN:
        build(recipe_of(0, 5), str(out))
    first = paused(call, path, command.replace("OUT", repr(str(out))))
    build(recipe_of(2), str(out), mode=Mode.OVERWRITE)
    same_as(out, alone, hidden=False)
    assert first.go_on() == "LockLostError"
    same_as(out, alone)


@pytest.mark.parametrize(
    ("call", "path"),
    [("link", r"plan\.parquet"), ("link", r"shards/000001\.tar"), ("link", r"stats/000001\.json")],
)
@pytest.mark.parametrize("mode", [Mode.RESUME, Mode.OVERWRITE])
def test_the_same_recipe_takes_over(
    tmp_path: Path, undisturbed: dict[str, Path], call: str, path: str, mode: Mode
):
    out, alone = tmp_path / "out", undisturbed["seed-1"]
    first = paused(call, path, NEW.replace("OUT", repr(str(out))))
    build(recipe_of(1, 11), str(out), mode=mode)
    same_as(out, alone, hidden=False)
    assert first.go_on() == "LockLostError"
    same_as(out, alone)


@pytest.mark.parametrize("path", [r"manifest\.json", r"README\.md"])
def test_an_old_manifest_does_not_replace_the_final_one(tmp_path: Path, path: str):
    out, alone = tmp_path / "out", tmp_path / "alone"
    build(recipe_of(1), str(out))
    first = paused("replace", path, f"rebuild(Storage({str(out)!r}))")
    for folder in (out, alone):
        build(recipe_of(1), str(folder))
        build(recipe_of(1, 11), str(folder), mode=Mode.EXTEND)
    same_as(out, alone, hidden=False)
    assert first.go_on() == "LockLostError"
    same_as(out, alone)


@pytest.mark.parametrize("path", [r"0002\.plan\.parquet", r"0002\.recipe\.yaml", r"0002\.identity\.json"])
@pytest.mark.parametrize(
    "command",
    ["build(recipe_of(3, 9), OUT, mode=Mode.AGAIN)", "retry_rejects(OUT, reasons=['odd'])"],
)
def test_another_version_is_appended(tmp_path: Path, path: str, command: str):
    """Both runs draw version 2 of the plan."""
    out, alone = tmp_path / "out", tmp_path / "alone"
    for folder in (out, alone):
        build(recipe_of(1), str(folder))
    first = paused("link", path, command.replace("OUT", repr(str(out))))
    for folder in (out, alone):
        build(recipe_of(2, 10), str(folder), mode=Mode.EXTEND)
    same_as(out, alone, hidden=False)
    assert first.go_on() == "LockLostError"
    same_as(out, alone)


@pytest.mark.parametrize("path", [r"splits/train\.txt", r"splits/val\.txt"])
@pytest.mark.parametrize("call", ["rename", "link"])
def test_lists_of_two_splits_are_never_mixed(tmp_path: Path, call: str, path: str):
    out = tmp_path / "out"
    build(recipe_of(1, 11), str(out))
    split(Storage(str(out)), share=0.5, seed=2)
    first = paused(call, path, f"split(Storage({str(out)!r}), share=0.5, seed=1, by_key=True)")
    split(Storage(str(out)), share=0.5, seed=2)
    lists = files_of(out, hidden=False)
    assert first.go_on() == "LockLostError"
    assert files_of(out) == lists
    sides = [set((out / f"splits/{side}.txt").read_text().split()) for side in ("train", "val")]
    assert len(sides[0] | sides[1]) == 4 and not sides[0] & sides[1]


@pytest.mark.parametrize(
    "path", [r"plan\.parquet", r"identity\.json", r"shards/000001\.tar", r"stats/000002\.json"]
)
def test_a_merge_is_taken_over(tmp_path: Path, path: str):
    """By one of the same outputs, or where the first has not begun yet, of others."""
    for seed in (1, 2, 3):
        build(recipe_of(seed, 5, first_seed=1000 * seed), str(tmp_path / str(seed)))
    urls = [str(tmp_path / str(seed)) for seed in (1, 2, 3)]
    out, alone = tmp_path / "out", tmp_path / "alone"
    first = paused("link", path, f"merge({str(out)!r}, {urls[:2]!r}, name='all')")
    others = urls[1:] if path in (r"plan\.parquet", r"identity\.json") else urls[:2]
    for folder in (out, alone):
        merge(str(folder), others, name="all")
    same_as(out, alone, hidden=False)
    assert first.go_on() == "LockLostError"
    same_as(out, alone)
