"""Outputs with a judge, or with a part of the regions: what their samples have, and whatever reads or copies them."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from actors.batch import Sample
from actors.connected import connected
from actors.images import encode_mask, read_mask
from eval.gallery import write_gallery
from factory.maintain.inspect import inspect, write_images
from factory.maintain.made_by import MadeBy
from factory.maintain.merge import merge
from factory.maintain.replay import replay
from factory.maintain.split import split
from factory.maintain.verify import verify
from factory.output.identity import ROLES, Identity, weights_of
from factory.output.shards.further import Further
from factory.output.shards.reader import read_shard_of
from factory.output.shards.records import INDEX_SCHEMAS
from factory.recipe.recipe import content
from factory.store.storage import Storage
from tests.factory.maintain.forger import change_both, change_index, change_tar
from tests.factory.maintain.outputs import JUDGE, by_hand, by_the_stages, recipe, sample
from tests.upernet import save_upernet

MEMBERS = ("image.png", "mask.png", "changed.png", "judged.png", "original.png", "json")


def items(word: str, count: int = 4, *, judged: bool = True, rejected: int = 2) -> list[Sample]:
    """The one with the number `rejected` is rejected as legal."""
    return [
        sample(f"{word}-{n}", f"memory://{word}/{n}.png", rejected="legal" * (n == rejected), judged=judged)
        for n in range(count)
    ]


@pytest.fixture
def made(tmp_path: Path) -> Storage:
    return by_hand(tmp_path / "made", [items("cat"), items("dog")], changes=[JUDGE])


def problems(storage: Storage) -> list[str]:
    return [problem.what for problem in verify(storage).problems]


def index_of(storage: Storage, shard: int = 0) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(
        io.BytesIO(storage.read(f"index/{shard:06d}.parquet"))
    ).to_pylist()
    return rows


def test_a_sample_has_the_judged_map_and_its_figures(made: Storage):
    assert verify(made).sound and problems(made) == []
    for found, row in zip(read_shard_of(made, 0), [index_of(made)[n] for n in (0, 1, 3)], strict=True):
        assert tuple(found.members) == MEMBERS
        mask, judged = read_mask(found.members["mask.png"]), read_mask(found.members["judged.png"])
        number, count = connected(mask)
        assert np.array_equal(judged, number == 1)
        figures = {"regions": count, "broken_regions": 1, "judged_area": judged.sum() / 256}
        about = found.json()
        assert {name: about[name] for name in figures} == {name: row[name] for name in figures} == figures
        assert "candidates" not in about and "candidates" not in row


def test_without_a_judge_everything_is_as_it_was(tmp_path: Path):
    storage = by_hand(tmp_path / "out", [items("cat", judged=False)])
    assert problems(storage) == []
    (first, *_) = read_shard_of(storage, 0)
    assert tuple(first.members) == tuple(name for name in MEMBERS if name != "judged.png")
    assert not first.json().keys() & {"candidates", "regions", "broken_regions", "judged_area"}
    assert [name for name in index_of(storage)[0] if "judged" in name or "regions" in name] == []
    assert INDEX_SCHEMAS[Further()].names == list(index_of(storage)[0])
    assert "judge" not in storage.read("README.md").decode()


def test_the_card_names_the_map_and_the_types(made: Storage):
    card = made.read("README.md").decode()
    assert "| `KEY.judged.png` | what changed and is an artifact to the judge, 1 bit |" in card
    assert "a judge (`nowhere`) must find an artifact in a connected part of it" in " ".join(card.split())
    for line in ("- name: judged.png", "name: judged_area", "name: broken_regions"):
        assert line in card


def test_a_sample_and_a_reject_are_looked_up(made: Storage, tmp_path: Path):
    accepted, rejected = inspect(made, "cat-0"), inspect(made, "cat-2")
    assert accepted.problems == () and [file.name for file in accepted.files] == list(MEMBERS)
    assert accepted.index["broken_regions"] == 1
    assert {path.name for path in write_images(accepted, tmp_path / "a")} == {
        f"cat-0.{name}" for name in MEMBERS
    }
    assert {path.name for path in write_images(rejected, tmp_path / "r")} == {
        f"cat-2.{name}.png" for name in ("before", "after", "mask", "changed", "judged")
    }


def test_the_gallery_shows_the_map(made: Storage):
    assert write_gallery(made, "judged") == 8
    page = made.read("gallery.html").decode()
    assert page.count('<figure class="panel judged">') == 8 and "broken regions" in page


def outside_of_changed(files: dict[str, bytes]) -> None:
    changed = read_mask(files["cat-0.changed.png"])
    judged = read_mask(files["cat-0.judged.png"]).copy()
    inside, beyond = np.argwhere(judged)[0], np.argwhere(~changed)[0]
    judged[tuple(inside)], judged[tuple(beyond)] = False, True
    files["cat-0.judged.png"] = encode_mask(judged)


def fewer(files: dict[str, bytes]) -> None:
    judged = read_mask(files["cat-0.judged.png"]).copy()
    judged[tuple(np.argwhere(judged)[0])] = False
    files["cat-0.judged.png"] = encode_mask(judged)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda files: files.pop("cat-0.judged.png"), "missing judged.png"),
        (outside_of_changed, "judged.png has 1 pixels that did not change"),
        (fewer, "the pixels give a judged_area of "),
    ],
)
def test_forged_maps_are_found(made: Storage, change: Callable[[dict[str, bytes]], object], what: str):
    change_tar(made, change, index=True)  # type: ignore[arg-type]
    assert any(what in problem for problem in problems(made)), problems(made)


@pytest.mark.parametrize(
    ("values", "what"),
    [
        ({"broken_regions": 0}, "verified with 0 broken regions of "),
        ({"broken_regions": 99}, "99 broken regions of "),
        ({"regions": 98}, "the pixels give a regions of "),
        ({"judged_area": 0.5}, "the pixels give a judged_area of "),
        ({"regions": -1}, "negative values for regions"),
    ],
)
def test_forged_figures_are_found(made: Storage, values: dict[str, Any], what: str):
    change_both(made, "cat-0", **values)
    assert any(what in problem for problem in problems(made)), problems(made)


def test_an_index_with_the_columns_of_another_recipe_is_found(made: Storage):
    change_index(made, lambda rows: None, INDEX_SCHEMAS[Further()])
    assert any(
        "it has other columns than its recipe gives: broken_regions, judged_area" in one
        for one in problems(made)
    )
    (problem, *_) = inspect(made, "cat-0").problems
    assert problem.startswith("it has other columns than its recipe gives")


def test_merged_with_an_output_without_a_judge_every_shard_keeps_what_it_has(made: Storage, tmp_path: Path):
    other = by_hand(tmp_path / "plain", [items("cow", judged=False)], name="plain")
    merge(str(tmp_path / "both"), [made.url, other.url])
    both = Storage(str(tmp_path / "both"))
    assert problems(both) == []
    for number, source in enumerate([(made, 0), (made, 1), (other, 0)]):
        storage, old = source
        for path in ("shards/{:06d}.tar", "index/{:06d}.parquet"):
            assert both.read(path.format(number)) == storage.read(path.format(old))
    card = both.read("README.md").decode()
    assert "what changed and is an artifact to the judge, 1 bit; of some of the data sets |" in card
    assert inspect(both, "dog-0").problems == inspect(both, "cow-0").problems == ()
    assert write_gallery(both, "both") == 12
    assert split(both, share=0.5, by_key=True)


def test_duplicates_are_left_out_of_judged_shards(made: Storage, tmp_path: Path):
    other = by_hand(tmp_path / "other", [items("dog", 5)], changes=[JUDGE])
    report = merge(str(tmp_path / "both"), [made.url, other.url], first_wins=True)
    both = Storage(str(tmp_path / "both"))
    assert (report.rewritten, report.left_out) == (1, 4) and problems(both) == []
    assert tuple(next(iter(read_shard_of(both, 2))).members) == MEMBERS


SHARED = "regions.share=0.5"


def test_counts_of_candidates_are_written_and_checked(tmp_path: Path):
    one = sample("a", "memory://a", judged=False)
    one.regions = connected(read_mask(one.mask))[1]  # type: ignore[arg-type]
    one.candidates = one.regions + 2
    storage = by_hand(tmp_path / "out", [[one]], changes=[SHARED])
    assert problems(storage) == []
    (found,) = read_shard_of(storage, 0)
    assert (found.json()["candidates"], found.json()["regions"]) == (one.candidates, one.regions)
    change_both(storage, "a", candidates=one.regions - 1)
    assert any(
        f"{one.regions} regions, of {one.regions - 1} candidates" in what for what in problems(storage)
    )


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Marks every pixel with the probability 0.75."""
    folder = save_upernet(tmp_path_factory.mktemp("model") / "net", bias=1.0986123)
    (folder / "metrics.json").write_text(json.dumps({"threshold": 0.8}))
    return folder


def test_the_stages_judge_and_a_replay_is_identical(detector: Path, tmp_path: Path):
    """At its own threshold the detector marks nothing; what is kept all the same has an empty map."""
    judge = f"verify.judge={{kind: detector, folder: '{detector}'}}"
    changes = [judge, "source.limit=2", "verify.on_failure=keep", "verify.attempts=1", SHARED]
    changes += ["corruption.target=image", "corruption.inversion={mode: fast}"]
    storage = by_the_stages(tmp_path / "out", recipe("small", *changes))
    assert problems(storage) == []
    for row in index_of(storage):
        assert (row["verified"], row["broken_regions"], row["judged_area"]) == (False, 0, 0)
        assert row["candidates"] >= row["regions"] >= 1
    assert replay(storage, [], count=2).identical


def test_the_judge_is_in_the_digest(detector: Path, tmp_path: Path):
    folder = shutil.copytree(detector, tmp_path / "net")

    def identity(**settings: object) -> Identity:
        judge = {"kind": "detector", "folder": str(folder), **settings}
        return Identity.of(recipe("small", f"verify.judge={json.dumps(judge)}"))

    plain, judged = Identity.of(recipe()), identity()
    assert "judge" not in plain.models and "judge" not in plain.devices
    assert judged.devices["judge"] == "cpu" and judged.models["judge"].startswith("net@")
    assert judged.digest != plain.digest
    (folder / "metrics.json").write_text(json.dumps({"threshold": 0.7}))
    other_threshold = identity()
    assert other_threshold.content == judged.content and other_threshold.digest != judged.digest
    save_upernet(folder, bias=0.5)
    assert identity().digest != other_threshold.digest


def test_an_output_of_an_earlier_version_is_one_without_a_judge(tmp_path: Path):
    document = content(recipe("small"))
    del document["verify"]["judge"], document["regions"]["share"]
    assert Further.of(document) == Further(judge=False, share=False)
    made_by = MadeBy.of(Identity(document, {}, {}, {}), "old")
    assert made_by.members == tuple(name for name in MEMBERS if name != "judged.png")
    assert (made_by.further, made_by.every_region) == (Further(), False)


def test_a_hub_id_is_pinned_at_its_commit():
    judge = "verify.judge={kind: detector, folder: owner/name, threshold: 0.5}"
    made_by = recipe("small", judge)
    assert weights_of(made_by)["judge"] == ("owner/name", None)
    pinned = ROLES["judge"].pinned(made_by, "abc")
    assert weights_of(pinned)["judge"] == ("owner/name", "abc")
    assert ROLES["judge"].weights(recipe()) is None
    assert pinned.model_copy(update={"verify": made_by.verify}) == made_by
