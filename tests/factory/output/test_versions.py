"""Outputs that grow: more items, another method for the same ones, rejected ones tried again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pytest

from actors.errors import OutputError
from factory.build import Mode, build
from factory.maintain.inspect import inspect
from factory.maintain.merge import merge
from factory.maintain.replay import replay
from factory.maintain.retry_rejects import retry_rejects
from factory.maintain.verify import read_index, verify
from factory.output.identity import Identity
from factory.output.plan import NoItemsError, read_plan
from factory.output.shards.tar import samples
from factory.pipeline.stages import Corrupt, Load, SelectRegions, Write
from factory.recipe.recipe import Recipe, parse_recipe
from factory.store.storage import Storage
from tests.integration.conftest import content_of

CHEAP = """
name: cheap
source: {kind: tinytown, size: 64, limit: 10, first_seed: 7000}
regions: {kind: source}
corruption: {method: blur, target: image, batch_size: 4}
verify: {least_inside: 0.9, most_outside: 1}
output: {samples_per_shard: 4}
execution: {corrupt: {cpus: 0.5}}
"""


def cheap(*changes: str) -> Recipe:
    return parse_recipe(CHEAP, "cheap.yaml", changes)


def one_after_the_other(
    recipe: Recipe, url: str, identity: Identity, todo: Sequence[int], run: str
) -> Iterator[int]:
    """The pipeline's stages in this process. Every other test of builds has them run by Ray."""
    stages = [stage(recipe, url, identity, run) for stage in (Load, SelectRegions, Corrupt, Write)]
    for number in todo:
        table = pa.table({"shard": [number]})
        for stage in stages:
            table = stage(table)
        yield number


@pytest.fixture(scope="module", autouse=True)
def without_ray() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("factory.pipeline.cluster.connect", lambda address: None)
        patch.setattr("factory.pipeline.cluster.check_resources", lambda pools, patience: {})
        patch.setattr("factory.pipeline.pipeline.run_shards", one_after_the_other)
        yield


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory, without_ray: None) -> Path:
    """Ten items in shards of 4, 4 and 2."""
    out = tmp_path_factory.mktemp("first") / "out"
    build(cheap(), str(out))
    return out


@pytest.fixture
def out(first: Path, tmp_path: Path) -> Path:
    return shutil.copytree(first, tmp_path / "out")


@pytest.fixture
def kept(out: Path) -> Callable[[], None]:
    """Checks that nothing of the first version was touched."""
    before = content_of(out) | {"recipe": (out / "recipe.yaml").read_bytes()}

    def check() -> None:
        after = content_of(out) | {"recipe": (out / "recipe.yaml").read_bytes()}
        assert {name: after[name] for name in before} == before

    return check


def fates(out: Path) -> dict[str, str]:
    """What became of every item, by key; of one that was tried again, at last."""
    storage = Storage(str(out))
    rows = (row for number in range(read_plan(storage).shards) for row in read_index(storage, number))
    return {str(row["key"]): str(row["reason"] or "accepted") for row in rows}


def images(out: Path) -> dict[str, dict[str, bytes]]:
    """The files of every sample by key, but for its JSON, which names the recipe."""
    found: dict[str, dict[str, bytes]] = {}
    for tar in sorted(out.glob("shards/*.tar")):
        with tar.open("rb") as stream:
            for key, files in samples(stream):
                assert key not in found
                found[key] = {name: data for name, data in files.items() if name != "json"}
    return found


def test_more_items(out: Path, kept: Callable[[], None], tmp_path: Path):
    more = cheap("source.limit=15")
    with pytest.raises(OutputError, match=r"source\.limit: 10 -> 15(.|\n)*--mode extend"):
        build(more, str(out))
    total = build(more, str(out), mode=Mode.EXTEND)
    kept()
    plan = read_plan(Storage(str(out)))
    assert [plan.size(number) for number in range(plan.shards)] == [4, 4, 2, 4, 1]
    assert (total.planned, total.retried, total.done, total.complete) == (15, 0, 5, True)
    assert verify(Storage(str(out))).sound
    # Every image is that of a data set that had fifteen items from the start.
    build(more, str(tmp_path / "whole"))
    assert images(out) == images(tmp_path / "whole")
    # Once more: nothing is new, and nothing changes.
    after, messages = content_of(out), list[str]()
    build(more, str(out), mode=Mode.EXTEND, tell=messages.append)
    assert content_of(out) == after and "no item that" in messages[0]
    assert build(cheap(), str(out)).complete, "the first recipe's own shards are all there"
    with pytest.raises(NoItemsError, match="no item that"):
        build(cheap("seed=3"), str(out), mode=Mode.EXTEND)
    assert replay(Storage(str(out)), ["tinytown-000007013"]).identical
    card = (out / "README.md").read_text()
    assert "| cheap | 3 |" in card and "| cheap | 2 |" in card


def test_a_second_method_over_the_same_items(out: Path, kept: Callable[[], None]):
    rotated = cheap("corruption.method=rotate")
    total = build(rotated, str(out), mode=Mode.AGAIN)
    kept()
    assert (total.planned, total.done) == (20, 6) and verify(Storage(str(out))).sound
    keys = list(fates(out))
    assert keys[10:] == [f"{key}-v2" for key in keys[:10]]
    made_by = {inspect(Storage(str(out)), key).made_by["digest"] for key in (keys[0], keys[10])}
    assert len(made_by) == 2
    after = content_of(out)
    build(rotated, str(out), mode=Mode.AGAIN)
    build(rotated, str(out))
    assert content_of(out) == after, "it is there already"
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["complete"] and len(manifest["shards"]) == 6


def test_a_version_that_was_cut_off_goes_on(out: Path, kept: Callable[[], None]):
    more = cheap("source.limit=15")
    build(more, str(out), mode=Mode.EXTEND)
    whole = content_of(out)
    for name in ("shards/000003.tar", "index/000003.parquet", "stats/000003.json"):
        (out / name).unlink()
    messages = list[str]()
    total = build(cheap(), str(out), tell=messages.append)
    assert not total.complete and "1 shards of other versions are not made yet" in messages[0]
    assert build(more, str(out)).complete
    assert content_of(out) == whole
    kept()


def test_rejected_items_by_a_relaxed_rule(out: Path, kept: Callable[[], None], tmp_path: Path):
    before = fates(out)
    rejected = [key for key, fate in before.items() if fate == "unchanged"]
    assert 0 < len(rejected) < 10
    with pytest.raises(OutputError, match="no item that was rejected would be treated otherwise"):
        retry_rejects(str(out))
    with pytest.raises(OutputError, match="no item that was rejected for spilled would"):
        retry_rejects(str(out), overrides=["verify.least_inside=0"], reasons=["spilled"])
    retried = retry_rejects(str(out), overrides=["verify.least_inside=0"])
    kept()
    assert (retried.items, retried.accepted, retried.reasons) == (len(rejected), len(rejected), {})
    total = retried.total
    assert (total.planned, total.retried) == (10 + len(rejected), len(rejected))
    assert (total.accepted, total.rejected) == (10, len(rejected)) and verify(Storage(str(out))).sound
    assert set(fates(out).values()) == {"accepted"}
    # As if the rule had been the relaxed one from the start.
    build(cheap("verify.least_inside=0"), str(tmp_path / "relaxed"))
    assert images(out) == images(tmp_path / "relaxed")
    assert replay(Storage(str(out)), rejected).identical
    assert inspect(Storage(str(out)), rejected[0]).status == "accepted"
    with pytest.raises(OutputError, match="no item that was rejected would"):
        retry_rejects(str(out), overrides=["verify.least_inside=0"])


def test_an_output_with_retries_is_merged(out: Path, tmp_path: Path):
    retry_rejects(str(out), overrides=["verify.least_inside=0"])
    other = tmp_path / "other"
    build(cheap("source.first_seed=7100", "source.limit=3"), str(other))
    merged = merge(str(tmp_path / "merged"), [str(out), str(other)])
    assert (merged.total.planned, merged.total.retried, merged.left_out) == (13, 0, 0)
    assert verify(Storage(str(tmp_path / "merged"))).sound
    assert images(tmp_path / "merged") == images(out) | images(other)
