"""Builds on a real local Ray: equal bytes whatever the pools and the order, resume, refusal, and readers."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from actors.errors import OutputError, SourceError
from eval.gallery import write_gallery
from factory.build import Mode, build
from factory.maintain.verify import Verdict, verify
from factory.output.identity import read_identity
from factory.output.manifest import done_shards
from factory.recipe.recipe import parse_recipe
from factory.run.monitor import monitor
from factory.run.tally import Tally
from factory.store.storage import Storage
from tests.browser import chromium, visit
from tests.integration.conftest import SMALL, content_of
from tinytown import ASSETS_VERSION

ITEMS = 12

pytestmark = pytest.mark.usefixtures("ray_here")


@dataclass(frozen=True)
class Watched:
    """A build and what was to be seen while it ran.

    Attributes:
        out: its output.
        lines: that the view printed.
        calls: published shards and counts of items in flight, in their order.
    """

    out: Path
    lines: list[str]
    calls: list[tuple[int, dict[str, int]]]


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory, ray_here: None) -> Watched:
    calls: list[tuple[int, dict[str, int]]] = []

    class Recorder(Tally):
        def in_flight(self, counts: Mapping[str, int]) -> None:
            calls.append((self.done, dict(counts)))
            super().in_flight(counts)

    out, screen = tmp_path_factory.mktemp("built") / "out", io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("factory.pipeline.in_flight.SECONDS_BETWEEN_REPORTS", 0.05)  # the driver's looks
        patch.setattr("factory.pipeline.in_flight.SECONDS_BEFORE_BOARD", 0.0)
        patch.setattr("factory.pipeline.passes.Tally", Recorder)
        patch.setattr("factory.run.monitor.SECONDS_BETWEEN_LINES", 0.05)
        with monitor(Console(file=screen)) as view:
            build(parse_recipe(SMALL, "small.yaml"), str(out), show=view.show)
    return Watched(out, screen.getvalue().splitlines(), calls)


@pytest.fixture
def built(watched: Watched) -> Path:
    return watched.out


def check(out: Path) -> Verdict:
    return verify(Storage(str(out)))


def test_every_item_is_accounted_for(built):
    verdict = check(built)
    assert verdict.problems == ()
    assert verdict.sound and verdict.planned == ITEMS and verdict.shards == verdict.done == 4
    manifest = json.loads((built / "manifest.json").read_text())
    totals = manifest["totals"]
    assert totals["accepted"] + totals["rejected"] == totals["planned"] == ITEMS
    assert totals["accepted"] == verdict.accepted > 0
    assert manifest["digest"] == read_identity(Storage(str(built)))[0].digest
    assert f"tinytown-v{ASSETS_VERSION}@" in manifest["models"]["corruption"]


def test_tar_headers_are_normalised(built):
    for path in built.glob("shards/*.tar"):
        with tarfile.open(path) as tar:
            for member in tar:
                assert (member.mtime, member.uid, member.gid, member.uname, member.mode) == (
                    0,
                    0,
                    0,
                    "",
                    0o644,
                )


def test_progress_within_shards_is_seen_before_the_first_is_published(watched: Watched):
    lines = [line for line in watched.lines if "0/12 done: 0 accepted (-); no shard yet" in line]
    assert any("in progress: load 12" in line for line in lines)
    before = [counts for done, counts in watched.calls if done == 0]
    assert any(counts.get("load", 0) >= 5 for counts in before)
    assert any(0 < counts.get("invert", 0) <= 12 for counts in before)
    assert watched.calls[-1] == (12, {})


def test_larger_pools_and_another_order_give_the_same_bytes(built, tmp_path, small):
    recipe = small("execution.corrupt.largest=2", "execution.corrupt.smallest=2", "execution.load.largest=2")
    build(recipe, str(tmp_path / "out"), order=lambda numbers: [3, 1, 0, 2])
    assert content_of(tmp_path / "out") == content_of(built)


def test_missing_shards_are_made_again_and_nothing_else(built, tmp_path, small):
    out = shutil.copytree(built, tmp_path / "out")
    before = (out / "stats/000000.json").stat().st_mtime_ns
    (out / "stats/000002.json").unlink()  # as after a kill between tar and sidecar
    (out / "shards/000002.tar").write_bytes(b"half a tar")
    (out / "shards/000003.tar").unlink()
    (out / "index/000003.parquet").unlink()
    (out / "stats/000003.json").unlink()
    assert done_shards(Storage(str(out))) == {0, 1}
    build(small(), str(out))
    assert content_of(out) == content_of(built)
    assert (out / "stats/000000.json").stat().st_mtime_ns == before


def test_another_recipe_is_refused_with_the_difference(built, small):
    before = content_of(built)
    with pytest.raises(OutputError) as error:
        build(small("verify.least_inside=0.3", "corruption.inversion_steps=5"), str(built))
    assert "corruption.inversion_steps: 8 -> 5" in str(error.value)
    assert "verify.least_inside: 0.2 -> 0.3" in str(error.value)
    assert content_of(built) == before


def test_another_pool_size_is_not_refused(built, small):
    before = content_of(built)
    total = build(small("execution.corrupt.largest=4", "name=other"), str(built))
    assert total.complete and content_of(built) == before


@pytest.mark.parametrize("mode", Mode)
def test_a_stranger_s_folder_is_left_alone(tmp_path, small, mode):
    stranger = tmp_path / "images"
    (stranger / "stats").mkdir(parents=True)
    (stranger / "README.md").write_text("keep me")
    with pytest.raises(OutputError, match="no data set of ours; nothing was changed"):
        build(small(), str(stranger), mode=mode)
    assert sorted(path.name for path in stranger.iterdir()) == ["README.md", "stats"]
    assert (stranger / "README.md").read_text() == "keep me"


def test_overwriting_with_a_source_that_is_not_there_destroys_nothing(built, tmp_path):
    before = content_of(built)
    recipe = parse_recipe(
        f"""
        name: typo
        source: {{kind: webdataset, urls: [{tmp_path}/nowhere/*.tar], size: 64, fields: {{mask: mask.png}}}}
        regions: {{kind: source}}
        """,
        "typo.yaml",
    )
    with pytest.raises(SourceError, match="nowhere"):
        build(recipe, str(built), mode=Mode.OVERWRITE)
    assert content_of(built) == before
    with pytest.raises(SourceError, match="nowhere"):
        build(recipe, str(tmp_path / "fresh"))
    assert not (tmp_path / "fresh" / "identity.json").exists()


def test_a_lost_plan_is_told_and_no_shard_is_deleted(built, tmp_path, small):
    out = shutil.copytree(built, tmp_path / "out")
    (out / "plan.parquet").unlink()
    with pytest.raises(OutputError, match=r"plan\.parquet is missing"):
        build(small(), str(out))
    assert [path.name for path in sorted(out.glob("shards/*"))] == [
        path.name for path in sorted(built.glob("shards/*"))
    ]


def test_an_error_of_a_stage_reaches_the_user(tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    for name in "abc":
        Image.new("RGB", (64, 64)).save(images / f"{name}.png")
        Image.new("L", (64, 64), 255).save(images / f"{name}.mask.png")
    recipe = parse_recipe(
        f"""
        name: changed
        source: {{kind: images, urls: [{images}], size: 64, fields: {{mask: mask.png}}}}
        regions: {{kind: source, largest_area: 1.0}}
        execution: {{corrupt: {{cpus: 0.5}}}}
        """,
        "changed.yaml",
    )
    change_once = iter([lambda: Image.new("RGB", (80, 80)).save(images / "b.png")])
    with pytest.raises(SourceError, match=r"source changed since it was planned: .*b\.png"):
        build(recipe, str(tmp_path / "out"), show=lambda tally: next(change_once, lambda: None)())


def test_webdataset_reads_the_shards(built):
    import webdataset

    urls = sorted(str(path) for path in built.glob("shards/*.tar"))
    samples = list(webdataset.WebDataset(urls, shardshuffle=False).decode("rgb8"))
    assert len(samples) == check(built).accepted
    for sample in samples:
        assert sample["image.png"].shape == sample["original.png"].shape == (64, 64, 3)
        assert sample["mask.png"].shape[:2] == (64, 64)
        assert sample["json"]["key"] == sample["__key__"]


def test_datasets_reads_the_shards(built, tmp_path):
    import datasets

    urls = sorted(str(path) for path in built.glob("shards/*.tar"))
    samples = datasets.load_dataset(
        "webdataset", data_files=urls, split="train", cache_dir=str(tmp_path), streaming=False
    )
    assert len(samples) == check(built).accepted
    first = samples[0]
    assert first["image.png"].size == first["mask.png"].size == (64, 64)
    assert first["json"]["method"] == "noise" and 0 < first["json"]["change_inside"] <= 1


def test_the_gallery_opens_clean_in_a_browser(built):
    shown = write_gallery(Storage(str(built)), "small")
    assert shown == ITEMS
    page = built / "gallery.html"
    assert page.stat().st_size < 20_000_000
    with chromium() as browser, visit(browser, page, width=360, height=800) as view:
        loaded = view.page.evaluate(
            "Promise.all([...document.images].map(image => image.decode().then(() => image.naturalWidth > 0)))"
        )
        tiles = view.page.locator("[data-key]").count()
        assert loaded and all(loaded)
        assert tiles == ITEMS
        assert view.complaints == [] and view.requests == [page.as_uri()]


def test_the_changed_map_lies_mostly_in_the_mask(built):
    inside = outside = 0
    for path in built.glob("shards/*.tar"):
        with tarfile.open(path) as tar:
            files = {member.name: tar.extractfile(member).read() for member in tar}
        for name in files:
            if name.endswith(".mask.png"):
                mask = np.asarray(Image.open(io.BytesIO(files[name])))
                changed = np.asarray(Image.open(io.BytesIO(files[name.replace(".mask.", ".changed.")])))
                inside, outside = inside + (changed & mask).sum(), outside + (changed & ~mask).sum()
    assert inside > outside
