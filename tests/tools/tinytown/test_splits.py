"""The splits: unseen, disjoint captions, sampled once, in tars that are the same at every run."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import webdataset as wds
from PIL import Image

from eval.metrics import agreement
from eval.splits import open_split
from factory.recipe.recipe import load_recipe
from tinytown import ASSETS_VERSION
from tinytown.render import render
from tinytown.scene import caption, parse, sample_scene
from tools.tinytown.data import quickstart_captions, renders, trained_captions, unseen
from tools.tinytown.splits import Marks, annotator_digest, figures, mark_all, table, write_splits
from tools.tinytown.wild import Item, plan, sample

ROOT = Path(__file__).parents[3]
SIZES = {"labelled": 3, "labelled-2000": 3, "validation": 3, "wild": 3, "sealed": 3}


def damaged(keys: list[str], captions: list[str]) -> np.ndarray:
    """Stands in for a generator: the image of the caption with a magenta square over its first object."""
    images = []
    for key, text in zip(keys, captions, strict=True):
        scene = parse(text)
        image = render(scene).image.copy()
        x, y = scene.things[0].centre
        if key != "labelled-00002":
            image[y - 5 : y + 5, x - 5 : x + 5] = (255, 0, 255)
        images.append(image)
    return np.stack(images)


@dataclass
class Made:
    items: list[Item]
    images: np.ndarray
    marks: Marks
    folder: Path
    manifest: dict


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    out = tmp_path_factory.mktemp("assets")
    items = plan(set(), SIZES)
    images = sample(out, items, "fake@1", lambda: damaged)
    marks = mark_all(items, images)
    return Made(
        items,
        images,
        marks,
        out / "splits",
        write_splits(out / "splits", items, images, marks, "fake@1", "rules"),
    )


def test_the_clean_negatives_are_scenes_of_their_own():
    """As the shipped recipe promises: no caption of the quickstart or of a shipped image."""
    source = load_recipe("tinytown-negatives").source
    assert source.limit is not None
    captions = {caption(sample_scene(source.first_seed + number)) for number in range(source.limit)}
    assert len(captions) == 512 and not captions & quickstart_captions()
    shipped = set()
    for path in (ROOT / "tinytown" / "splits").glob("*/*.tar"):
        with tarfile.open(path) as tar:
            records = [tar.extractfile(member) for member in tar if member.name.endswith(".json")]
            shipped |= {json.load(record)["caption"] for record in records if record}
    assert len(shipped) == 5100 and not captions & shipped


def test_captions_are_unseen_and_disjoint(tmp_path: Path):
    renders(0, 4, cache=tmp_path / "data", processes=1)
    assert trained_captions(tmp_path) == {caption(sample_scene(seed)) for seed in range(4)}
    free = plan(set(), SIZES)
    taken = {free[0].caption, free[4].caption}
    items = plan(taken, SIZES)
    captions = [item.caption for item in items]
    assert len(set(captions)) == len(items) == 15
    assert not taken & set(captions)
    assert items[0].seed == free[1].seed, "the taken scene is passed over, those after it move up"
    assert all(caption(sample_scene(item.seed)) == item.caption for item in items)
    assert [item.key for item in items[:4]] == [
        "labelled-00000",
        "labelled-00001",
        "labelled-00002",
        "labelled-2000-00000",
    ]
    quickstart = quickstart_captions()
    assert {caption(sample_scene(500_000)), caption(sample_scene(501_999))} <= quickstart
    assert unseen(501_999, 1, quickstart)[0][0] >= 502_000


def test_what_was_trained_on_must_be_known(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="train the autoencoder"):
        trained_captions(tmp_path)


def test_sampling_resumes_and_notices_another_generator(tmp_path: Path):
    items, calls = plan(set(), {"labelled": 2}), []

    def load():
        calls.append("loaded")
        return damaged

    first = sample(tmp_path, items, "fake@1", load)
    assert np.array_equal(sample(tmp_path, items, "fake@1", load), first) and len(calls) == 1
    sample(tmp_path, items, "fake@2", load)
    assert len(calls) == 2
    sample(tmp_path, items[::-1], "fake@2", load)
    assert len(calls) == 3


def test_webdataset_opens_them(made: Made):
    samples = list(wds.WebDataset(str(made.folder / "labelled" / "000000.tar"), shardshuffle=False))
    assert [sample["__key__"] for sample in samples] == [f"labelled-{number:05d}" for number in range(3)]
    people, objects = made.marks.people, made.marks.objects
    for sample_, item, image, marks, seen in zip(
        samples, made.items, made.images, people, objects, strict=False
    ):
        assert {name for name in sample_ if "__" not in name} == {
            *("image.webp", "mask.png", "map.png", "objects.png", "json")
        }
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(sample_["image.webp"]))), image)
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(sample_["objects.png"]))), seen)
        heat = np.asarray(Image.open(io.BytesIO(sample_["map.png"])))
        assert heat.dtype == np.uint8 and set(np.unique(heat)) <= {0, 85, 170, 255}
        mask = Image.open(io.BytesIO(sample_["mask.png"]))
        assert mask.mode == "1" and np.array_equal(np.asarray(mask), marks.sum(axis=0) >= 2)
        assert json.loads(sample_["json"]) == {
            "key": item.key,
            "caption": item.caption,
            "seed": item.seed,
            "assets_version": ASSETS_VERSION,
            "generator": "fake@1",
        }


def test_what_was_planted_is_marked(made: Made):
    split = open_split("labelled", root=made.folder)
    assert split.captions == [item.caption for item in made.items[:3]]
    for text, mask in zip(split.captions[:2], split.masks, strict=False):
        x, y = parse(text).things[0].centre
        assert mask[y - 4 : y + 4, x - 4 : x + 4].mean() > 0.8
    assert not split.masks[2].any()


@pytest.mark.parametrize(("split", "more"), [("wild", set()), ("labelled-2000", {"mask.png"})])
def test_what_other_tars_hold(made: Made, split: str, more: set[str]):
    with tarfile.open(made.folder / split / "000000.tar") as tar:
        assert {name.partition(".")[2] for name in tar.getnames()} == {"image.webp", "json"} | more


def test_the_wild_split_has_no_labels(made: Made):
    assert not open_split("wild", root=made.folder).masks.any()


def test_the_same_bytes_at_every_run(made: Made, tmp_path: Path):
    part = slice(0, 3)
    marks = mark_all(made.items[part], made.images[part], processes=1)
    write_splits(tmp_path, made.items[part], made.images[part], marks, "fake@1", "rules")
    again = (tmp_path / "labelled" / "000000.tar").read_bytes()
    assert again == (made.folder / "labelled" / "000000.tar").read_bytes()
    with tarfile.open(fileobj=io.BytesIO(again)) as tar:
        assert {(member.mtime, member.uid, member.uname) for member in tar} == {(0, 0, "")}


def test_the_manifest_says_what_is_in_them(made: Made):
    manifest = json.loads((made.folder / "manifest.json").read_text())
    assert manifest["assets_version"] == ASSETS_VERSION and manifest["generator"] == "fake@1"
    assert manifest["annotator"] == "rules"
    assert list(manifest["splits"]) == list(SIZES)
    for number, (name, row) in enumerate(manifest["splits"].items()):
        data = (made.folder / name / "000000.tar").read_bytes()
        assert (row["items"], row["bytes"]) == (3, len(data))
        assert row["sha256"] == hashlib.sha256(data).hexdigest()
        assert (made.folder / name / "VERSION.txt").read_text() == f"{ASSETS_VERSION}\n"
        marks = made.marks.people[3 * number : 3 * number + 3]
        if name == "wild":
            assert not marks.any() and set(row) == {"items", "bytes", "sha256"}
            continue
        areas = sorted(float((one.sum(axis=0) >= 2).mean()) for one in marks)
        assert row["median_artifact_area"] == pytest.approx(areas[1], abs=1e-4)
        assert row["agreement"] == pytest.approx(agreement(marks), abs=1e-4)
        assert row["without_artifact"] == pytest.approx(sum(area == 0 for area in areas) / 3, abs=1e-4)
    assert manifest["splits"]["labelled"]["without_artifact"] == pytest.approx(1 / 3, abs=1e-4)
    assert "validation" in table(made.manifest) and len(table(made.manifest).splitlines()) == 6


def test_the_figures_by_hand():
    """Objects of 100 pixels, of which 0, 5, 6 and 50 are marked by two people or by all; one object is lost."""
    objects = np.zeros((2, 64, 64), np.uint8)
    objects[:, :10, :10], objects[:, 20:30, :10] = 1, 2
    people = np.zeros((2, 3, 64, 64), bool)
    people[0, 0, :10, :10] = True  # by one person alone: no artifact
    people[0, :2, 20, :5] = True
    people[1, :, 0, :6] = True
    people[1, 1:, 20:25, :10] = True
    people[1, :, 40, :39] = True  # in the background
    found = figures(Marks(people, objects, np.array([2, 3])))
    assert found.pop("agreement") > 0
    assert found == {
        "median_artifact_area": round((5 + 95) / 2 / 4096, 4),
        "mean_artifact_area": round(50 / 4096, 4),
        "without_artifact": 0.0,
        "objects": 4,
        "intact_objects": 0.5,
        "not_found": 0.2,
        "iou_fg_of_all_objects": round(61 / (400 + 39), 4),
    }


def test_the_digest_of_the_annotator_is_of_its_sources():
    digest = annotator_digest()
    assert len(digest) == 16 and int(digest, 16) >= 0 and digest == annotator_digest()
