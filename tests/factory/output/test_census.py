"""What does not belong to an output is found when it is built again, and made again: never a silent mixture."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from actors.errors import BuildError, LockLostError, OutputError
from factory.build import Mode, build
from factory.maintain.retry_rejects import retry_rejects
from factory.maintain.verify import verify
from factory.output.plan import read_plan
from factory.output.shards.records import read_sidecar
from factory.output.shards.writer import commit_shard
from factory.store.storage import Storage
from tests.factory.output.pausing import recipe_of, without_ray
from tests.factory.output.test_fencing import files_of

Change = Callable[[Path, Path], object]


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    without_ray(monkeypatch.setitem, monkeypatch.setattr)


def whole_shard(out: Path, other: Path) -> None:
    for name in ("shards/000001.tar", "index/000001.parquet", "stats/000001.json"):
        shutil.copy(other / name, out / name)


def sidecar(number: int = 1, **changes: object) -> Change:
    def change(out: Path, other: Path) -> None:
        path = out / "stats" / f"{number:06d}.json"
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
def test_files_of_shards_that_no_plan_has_are_reported(tmp_path: Path, name: str):
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


def test_a_build_counts_no_foreign_shard_of_another_version(tmp_path: Path):
    build(recipe_of(1), str(tmp_path))
    whole = build(recipe_of(2, 10), str(tmp_path), mode=Mode.EXTEND)
    assert whole.complete
    sidecar(digest="0" * 64)(tmp_path, tmp_path)
    reported: list[str] = []
    total = build(recipe_of(2, 10), str(tmp_path), tell=reported.append)
    assert (total.done, total.shards) == (whole.shards - 1, whole.shards)
    assert any("1 shards of other versions are not made yet" in words for words in reported)
    assert not json.loads((tmp_path / "manifest.json").read_text())["complete"]


@pytest.mark.parametrize(
    "change", [sidecar(3, digest="0" * 64), gone("index/000003.parquet"), cut("stats/000003.json")]
)
def test_a_retry_goes_on_with_a_shard_that_is_not_done(tmp_path: Path, change: Change):
    """Shards 0 to 2 are of the first version; shard 3 has the rejects that were tried again."""
    build(recipe_of(1), str(tmp_path))
    first = retry_rejects(str(tmp_path), reasons=["odd"])
    assert read_plan(Storage(str(tmp_path))).shards == 4
    change(tmp_path, tmp_path)
    again = retry_rejects(str(tmp_path), reasons=["odd"])
    assert read_plan(Storage(str(tmp_path))).shards == 4
    assert (again.items, again.reasons, again.total.done) == (first.items, first.reasons, 4)


def test_rejects_of_a_foreign_shard_are_not_tried_again(tmp_path: Path):
    """Its index says what another run made of it."""
    build(recipe_of(1), str(tmp_path))
    rejected = [json.loads(path.read_text())["rejected"] for path in sorted(tmp_path.glob("stats/*"))]
    assert sum(rejected)
    number = next(place for place, count in enumerate(rejected) if count)
    cut(f"index/{number:06d}.parquet")(tmp_path, tmp_path)
    with pytest.raises(OutputError, match="no item that was rejected for odd"):
        retry_rejects(str(tmp_path), reasons=["odd"])


@pytest.mark.parametrize("same", [True, False])
def test_a_late_sidecar_stays_only_where_the_next_run_counts_on_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, same: bool
):
    """The lock is lost between the sidecar and the look at the lock that follows it."""
    out, other = tmp_path / "out", tmp_path / "other"
    build(recipe_of(1), str(out))
    build(recipe_of(2), str(other))
    sidecar = read_sidecar(Storage(str(out)), 1)
    paths = [out / name for name in ("shards/000001.tar", "index/000001.parquet", "stats/000001.json")]
    tar, index, _ = (path.read_bytes() for path in paths)
    for path in paths:
        path.unlink()
    (out / "lock.json").write_text('{"run": "mine"}')
    link = os.link

    def taken_over(source: Path, target: Path) -> None:
        link(source, target)
        if Path(target) == paths[2]:
            (out / "lock.json").write_text('{"run": "theirs"}')
            if not same:
                shutil.copy(other / "identity.json", out / "identity.json")

    monkeypatch.setattr(os, "link", taken_over)
    with pytest.raises(LockLostError):
        commit_shard(Storage(str(out), run="mine"), sidecar, tar, index)
    assert paths[2].exists() == same
