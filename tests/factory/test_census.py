"""What does not belong to an output is found when it is built again, and made again: never a silent mixture."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from actors.errors import BuildError
from factory.build import build
from factory.shards.check import verify
from factory.storage import Storage
from tests.factory.pausing import recipe_of, without_ray
from tests.factory.test_fencing import files_of

Change = Callable[[Path, Path], object]


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    without_ray(monkeypatch.setitem, monkeypatch.setattr)


def whole_shard(out: Path, other: Path) -> None:
    for name in ("shards/000001.tar", "index/000001.parquet", "stats/000001.json"):
        shutil.copy(other / name, out / name)


def sidecar(**changes: object) -> Change:
    def change(out: Path, other: Path) -> None:
        path = out / "stats" / "000001.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return change


def cut(name: str) -> Change:
    return lambda out, other: (out / name).write_bytes((out / name).read_bytes()[:-1])


def gone(name: str) -> Change:
    return lambda out, other: (out / name).unlink()


@pytest.mark.parametrize(
    "change",
    [
        whole_shard,
        lambda out, other: shutil.copy(other / "stats/000001.json", out / "stats/000001.json"),
        sidecar(digest="0" * 64),
        # The same recipe over other items, as when its source has changed.
        sidecar(plan_sha256="0" * 64),
        sidecar(planned=2),
        sidecar(shard=2),
        cut("stats/000001.json"),
        cut("index/000001.parquet"),
        cut("shards/000002.tar"),
        gone("shards/000000.tar"),
        gone("index/000000.parquet"),
        gone("stats/000000.json"),
    ],
)
def test_a_shard_that_is_not_of_this_output_is_made_again(tmp_path: Path, change: Change):
    out, other, alone = tmp_path / "out", tmp_path / "other", tmp_path / "alone"
    build(recipe_of(1), str(alone))
    build(recipe_of(2), str(other))
    shutil.copytree(alone, out)
    change(out, other)
    build(recipe_of(1), str(out))
    assert files_of(out) == files_of(alone)
    assert verify(Storage(str(out))).sound


def test_the_tar_of_a_shard_without_samples_is_removed(tmp_path: Path):
    """Three neighbouring keys, of which only one ends in 5: with one item a shard, its shard has no tar."""
    out, alone = tmp_path / "out", tmp_path / "alone"
    recipe = recipe_of(1).model_copy(deep=True)
    recipe = recipe.model_copy(update={"output": recipe.output.model_copy(update={"samples_per_shard": 1})})
    build(recipe, str(alone))
    shutil.copytree(alone, out)
    without = [path for path in alone.glob("stats/*") if json.loads(path.read_text())["tar"] is None]
    assert without
    shutil.copy(next(out.glob("shards/*")), out / "shards" / without[0].with_suffix(".tar").name)
    build(recipe, str(out))
    assert files_of(out) == files_of(alone)


@pytest.mark.parametrize("name", ["shards/000003.tar", "index/000007.parquet", "stats/123456.json"])
def test_files_of_shards_that_no_plan_has_are_told(tmp_path: Path, name: str):
    build(recipe_of(1), str(tmp_path))
    shutil.copy(next((tmp_path / name.partition("/")[0]).iterdir()), tmp_path / name)
    with pytest.raises(BuildError, match=rf"{name} belong to no shard of the plan.*move them away"):
        build(recipe_of(1), str(tmp_path))
    (tmp_path / name).unlink()
    build(recipe_of(1), str(tmp_path))


def test_other_files_beside_the_shards_are_none_of_it(tmp_path: Path):
    build(recipe_of(1), str(tmp_path))
    (tmp_path / "shards" / "000003.tar.idx").write_bytes(b"0")
    assert build(recipe_of(1), str(tmp_path)).complete
