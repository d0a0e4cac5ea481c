"""COCO files as CVAT and Label Studio export them, SynthScars, and what is wrong with files: imported and compared."""

from __future__ import annotations

import json
import tracemalloc
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from actors.errors import OutputError, SourceError
from eval.coco.annotations import read_annotations
from eval.coco.data_set import Coco, CocoSettings
from eval.imports.job import Imported, import_set
from eval.imports.verify import verify_import
from eval.labelled import stream_labelled
from factory.store.storage import Storage
from tests.coco_files import (
    HEIGHT,
    WIDTH,
    annotation,
    corners,
    read_samples,
    rectangle,
    runs,
    write_coco,
    write_image,
)

PLAIN = {"width": WIDTH, "height": HEIGHT}


def run(folder: Path, out: Path, **settings: Any) -> Imported:
    places = {"annotations": str(folder / "annotations.json"), "images": str(folder / "images")}
    return import_set(Coco(CocoSettings(**{**places, **settings})), str(out), per_shard=3)


def rejects(out: Path) -> dict[str, tuple[str, str]]:
    """Reason and sentence of every reject, by the name of its image."""
    rows = [row for path in sorted(out.glob("index/*.parquet")) for row in pq.read_table(path).to_pylist()]
    return {
        row["source"].partition("#image=")[2]: (row["reason"], row["detail"]) for row in rows if row["reason"]
    }


def cvat(folder: Path) -> None:
    """As CVAT's COCO 1.0 has it: ids from 1, sub-folders, brushes as uncompressed runs with `iscrowd`."""
    for number, name in enumerate(("a.jpg", "sub/b.png", "sub/clean.png")):
        write_image(folder / "images" / name, number)
    images = [
        {
            "id": 1,
            **PLAIN,
            "file_name": "a.jpg",
            "license": 0,
            "flickr_url": "",
            "coco_url": "",
            "date_captured": 0,
        },
        {"id": 2, **PLAIN, "file_name": "sub/b.png", "license": 0},
        {"id": 3, **PLAIN, "file_name": "sub/clean.png", "license": 0},
    ]
    plain = {"attributes": {"occluded": False}}
    brush = runs(rectangle(10, 20, 50, 40))
    annotations = [
        annotation(1, 1, [[float(number) for number in corners(5, 5, 20, 20)]], **plain),
        annotation(2, 1, [corners(15, 10, 40, 15), corners(0, 35, 60, 40)], category_id=2, **plain),
        annotation(3, 2, brush, iscrowd=1, **plain),
        annotation(4, 2, [corners(0, 0, 12, 25)], **plain),
    ]
    categories = [
        {"id": 1, "name": "limb", "supercategory": ""},
        {"id": 2, "name": "text", "supercategory": ""},
    ]
    write_coco(folder / "annotations.json", images, annotations, categories)


POLYGONS = rectangle(5, 5, 20, 20) | rectangle(15, 10, 40, 15) | rectangle(0, 35, 60, 40)
CORNER, BRUSH = rectangle(0, 0, 12, 25), rectangle(10, 20, 50, 40)


def test_an_export_of_cvat(tmp_path: Path):
    cvat(tmp_path)
    found = run(tmp_path, tmp_path / "out")
    samples = read_samples(tmp_path / "out")
    assert list(samples) == ["a.jpg", "sub/b.png", "sub/clean.png"] and not found.total.rejected
    assert np.array_equal(samples["a.jpg"]["mask.png"], POLYGONS)
    assert samples["a.jpg"]["json"]["categories"] == "limb, text"
    assert not samples["sub/clean.png"]["mask.png"].any()
    expected = np.where(CORNER, 255, np.where(BRUSH, 127, 0))
    assert np.array_equal(samples["sub/b.png"]["mask.png"], expected)
    assert samples["sub/b.png"]["json"]["mask_area"] == CORNER.mean()
    assert samples["sub/b.png"]["json"]["ignored_area"] == (BRUSH & ~CORNER).mean()
    original = np.asarray(Image.open(tmp_path / "images/sub/b.png"))
    assert np.array_equal(samples["sub/b.png"]["image.png"], original)
    assert found.figures == {
        "images": 3,
        "samples": 3,
        "samples with a mask": 2,
        "samples with an empty mask": 1,
        "samples with ignored pixels": 1,
        "regions": 4,
        "crowds among them, decided by crowd=ignore": 1,
    }
    assert verify_import(Storage(str(tmp_path / "out"))).sound


def test_ignored_pixels_are_read_without_settings(tmp_path: Path):
    """By the reader that training and evaluation use."""
    cvat(tmp_path)
    run(tmp_path, tmp_path / "out")
    found = {sample.key: sample.mask for sample in stream_labelled([str(tmp_path / "out/shards/000000.tar")])}
    mask = next(mask for key, mask in found.items() if key.startswith("b-"))
    assert np.array_equal(mask.inside, CORNER)
    assert mask.ignored is not None and np.array_equal(mask.ignored, BRUSH & ~CORNER)
    assert all(mask.ignored is None for key, mask in found.items() if not key.startswith("b-"))


@pytest.mark.parametrize(("crowd", "expected"), [("inside", CORNER | BRUSH), ("outside", CORNER)])
def test_crowds_by_choice(tmp_path: Path, crowd: str, expected: np.ndarray):
    cvat(tmp_path)
    run(tmp_path, tmp_path / "out", crowd=crowd)
    assert np.array_equal(read_samples(tmp_path / "out")["sub/b.png"]["mask.png"], expected)


def test_a_file_with_nothing_but_crowds_needs_a_choice(tmp_path: Path):
    write_image(tmp_path / "images/a.png")
    brush = annotation(1, 1, runs(BRUSH), iscrowd=1)
    write_coco(tmp_path / "annotations.json", [{"id": 1, "file_name": "a.png", **PLAIN}], [brush])
    with pytest.raises(
        SourceError, match=r"all 1 annotations have iscrowd, as CVAT writes .* --crowd inside"
    ):
        run(tmp_path, tmp_path / "out")
    run(tmp_path, tmp_path / "out", crowd="inside")
    assert np.array_equal(read_samples(tmp_path / "out")["a.png"]["mask.png"], BRUSH)


def test_categories_by_name(tmp_path: Path):
    cvat(tmp_path)
    found = run(tmp_path, tmp_path / "out", categories=("text",))
    samples = read_samples(tmp_path / "out")
    assert np.array_equal(
        samples["a.jpg"]["mask.png"], POLYGONS & ~rectangle(5, 5, 20, 20) | rectangle(15, 10, 20, 15)
    )
    assert not samples["sub/b.png"]["mask.png"].any()
    assert found.total.skipped == {"other_category": 3}
    with pytest.raises(SourceError, match="has no category hands; its categories: limb, text"):
        run(tmp_path, tmp_path / "other", categories=("hands",))


def label_studio(folder: Path, name: str) -> None:
    """Ids and categories from 0, an `ignore`, and names as the tool stores uploads."""
    write_image(folder / "images/1a2b3c4d-photo.png")
    images = [{"width": WIDTH, "height": HEIGHT, "id": 0, "file_name": name}]
    annotations = [
        annotation(0, 0, [corners(5, 5, 20, 20)], category_id=0, ignore=0),
        annotation(1, 0, [corners(30, 5, 50, 35)], category_id=0, ignore=0),
    ]
    write_coco(folder / "annotations.json", images, annotations, [{"id": 0, "name": "artifact"}])


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("images/1a2b3c4d-photo.png", {"images": ""}),
        ("images\\1a2b3c4d-photo.png", {"images": ""}),
        ("..\\..\\label-studio\\media\\upload\\4\\1a2b3c4d-photo.png", {"names": "tail"}),
        ("/data/upload/4/1a2b3c4d-photo.png", {"names": "tail"}),
    ],
)
def test_an_export_of_label_studio(tmp_path: Path, name: str, settings: dict[str, str]):
    label_studio(tmp_path / "export", name)
    if "images" in settings:
        settings = {"images": str(tmp_path / "export")}
    run(tmp_path / "export", tmp_path / "out", **settings)
    sample = read_samples(tmp_path / "out")[name]
    assert np.array_equal(sample["mask.png"], rectangle(5, 5, 20, 20) | rectangle(30, 5, 50, 35))


def test_names_that_lead_nowhere_end_the_import(tmp_path: Path):
    label_studio(tmp_path, "/data/upload/4/1a2b3c4d-photo.png")
    with pytest.raises(SourceError, match=r"no image of .* the first is '/data/upload.*--names tail"):
        run(tmp_path, tmp_path / "out")


def test_names_that_are_not_followed(tmp_path: Path):
    for name in ("images/a.png", "secret.png", "images/x/c.png", "images/y/c.png"):
        write_image(tmp_path / name)
    outside = str(tmp_path / "secret.png")
    names = ["a.png", "../secret.png", outside, f"file://{outside}", "https://example.org/a.png", "none.png"]
    images = [{"id": number, "file_name": name, **PLAIN} for number, name in enumerate(names)]
    write_coco(tmp_path / "annotations.json", images, [])
    found = run(tmp_path, tmp_path / "out")
    reasons = {name: reason for name, (reason, _) in rejects(tmp_path / "out").items()}
    assert reasons == {**dict.fromkeys(names[1:5], "unsafe_name"), "none.png": "missing_image"}
    assert (found.total.accepted, found.total.skipped) == (1, {"image_without_entry": 2})
    run(tmp_path, tmp_path / "tail", names="tail")
    by_tail = {name: reason for name, (reason, _) in rejects(tmp_path / "tail").items()}
    assert (
        by_tail
        == {
            "a.png": "ambiguous_image",  # that of the URL is the same file
            "https://example.org/a.png": "ambiguous_image",
            **dict.fromkeys([*names[1:4], "none.png"], "missing_image"),
        }
    )


def test_synthscars(tmp_path: Path):
    for name in ("a.png", "b.png"):
        write_image(tmp_path / "images" / name)
    refs = [
        {"sentence": "a hand", "explanation": "six fingers", "segmentation": [corners(5, 5, 20, 20)]},
        {"sentence": "text", "explanation": "", "segmentation": [corners(30, 5, 50, 35)]},
    ]
    records = [
        {"0": {"img_file_name": "a.png", "caption": "x", "refs": refs[:1]}},
        {"1": {"img_file_name": "b.png", "caption": "x", "refs": refs}},
        {"2": {"img_file_name": "a.png", "caption": "y", "refs": refs[1:]}},
    ]
    (tmp_path / "annotations.json").write_text(json.dumps(records))
    found = run(tmp_path, tmp_path / "out")
    both = rectangle(5, 5, 20, 20) | rectangle(30, 5, 50, 35)
    samples = read_samples(tmp_path / "out")
    assert sorted(samples) == ["a.png", "b.png"] and found.figures["regions"] == 4
    assert all(np.array_equal(sample["mask.png"], both) for sample in samples.values())


def test_sizes_and_orientations(tmp_path: Path):
    """An image that is stored on its side: annotations fit it as stored or as displayed; the sizes tell."""
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    images = tmp_path / "images"
    for name in ("stored.jpg", "displayed.jpg", "unknown.jpg", "other.jpg"):
        write_image(images / name, exif=exif)
    write_image(images / "none.png")
    sizes: dict[str, dict[str, object]] = {
        "stored.jpg": PLAIN,
        "displayed.jpg": {"width": HEIGHT, "height": WIDTH},
        "unknown.jpg": {},
        "other.jpg": {"width": WIDTH, "height": HEIGHT + 1},
        "none.png": {"width": None, "height": None},
    }
    entries = [{"id": number, "file_name": name, **sizes[name]} for number, name in enumerate(sizes)]
    marks = [annotation(number, number, [corners(0, 0, 30, 10)]) for number in range(len(entries))]
    write_coco(tmp_path / "annotations.json", entries, marks)
    run(tmp_path, tmp_path / "out")
    samples = read_samples(tmp_path / "out")
    stored = rectangle(0, 0, 30, 10)
    assert np.array_equal(samples["stored.jpg"]["mask.png"], np.rot90(stored, -1))
    assert np.array_equal(samples["displayed.jpg"]["mask.png"], rectangle(0, 0, 30, 10, size=(HEIGHT, WIDTH)))
    assert np.array_equal(samples["none.png"]["mask.png"], stored)
    reasons = {name: reason for name, (reason, _) in rejects(tmp_path / "out").items()}
    assert reasons == {"unknown.jpg": "orientation_unclear", "other.jpg": "image_size"}
    run(tmp_path, tmp_path / "told", orientation="stored")
    assert np.array_equal(read_samples(tmp_path / "told")["unknown.jpg"]["mask.png"], np.rot90(stored, -1))


def test_a_size(tmp_path: Path):
    """The centred square of 40 x 40 pixels, from the tenth column on, at half its size."""
    cvat(tmp_path)
    run(tmp_path, tmp_path / "out", size=20)
    sample = read_samples(tmp_path / "out")["sub/b.png"]
    expected = np.where(CORNER, 255, np.where(BRUSH, 127, 0))[:, 10:50]
    assert sample["image.png"].shape == (20, 20, 3)
    assert np.array_equal(sample["mask.png"], expected[1::2, 1::2])


def test_one_image_that_is_wrong_is_a_reject(tmp_path: Path):
    good = "good.png"
    wrong: dict[str, tuple[str, dict[str, object], object]] = {
        "rle.png": ("bad_rle", PLAIN, {"size": [HEIGHT, WIDTH], "counts": [10**9]}),
        "surrogate.png": ("bad_rle", PLAIN, {"size": "\ud800", "counts": [1]}),
        "polygon.png": ("bad_polygon", PLAIN, [[float("nan")] * 6]),
        "far.png": ("bad_polygon", PLAIN, [[1e12, 0, 0, 0, 0, 5]]),
        "text.png": ("bad_region", PLAIN, "polygon"),
        "box.png": ("box_only", PLAIN, []),
        "lie.png": ("image_size", {"width": 10**9, "height": 10**9}, [corners(0, 0, 5, 5)]),
        "side.png": ("bad_size", {"width": "wide", "height": -3}, [corners(0, 0, 5, 5)]),
        "damaged.png": ("image_damaged", PLAIN, []),
    }
    for name in (good, *wrong):
        write_image(tmp_path / "images" / name)
    damaged = tmp_path / "images/damaged.png"
    damaged.write_bytes(damaged.read_bytes()[:500])
    entries = [{"id": "g", "file_name": good, **PLAIN}]
    entries += [{"id": name, "file_name": name, **size} for name, (_, size, _) in wrong.items()]
    marks = [annotation(7, "g", [corners(5, 5, 20, 20)]), annotation(8, "nobody", [])]
    marks += [annotation(number, name, what) for number, (name, (_, _, what)) in enumerate(wrong.items())]
    write_coco(tmp_path / "annotations.json", entries, marks)
    found = run(tmp_path, tmp_path / "out")
    assert list(read_samples(tmp_path / "out")) == [good]
    assert {name: reason for name, (reason, _) in rejects(tmp_path / "out").items()} == {
        name: reason for name, (reason, _, _) in wrong.items()
    }
    assert all(detail for _, detail in rejects(tmp_path / "out").values())
    assert found.total.skipped == {"annotation_without_image": 1}
    assert verify_import(Storage(str(tmp_path / "out"))).sound


IMAGE = {"id": 1, "file_name": "a.png", **PLAIN}
MARK = annotation(1, 1, [corners(5, 5, 20, 20)])


@pytest.mark.parametrize(
    ("images", "marks", "message"),
    [
        ([], [MARK], "has no images"),
        ([{**IMAGE, "id": None}], [], r"images\[0\]: its id is no whole number"),
        ([{**IMAGE, "id": True}], [], "its id is no whole number"),
        ([{**IMAGE, "id": [1]}], [], "its id is no whole number"),
        ([{**IMAGE, "file_name": 7}], [], "its file_name is no string"),
        ([{**IMAGE, "file_name": " "}], [], "its file_name is no string"),
        ([{**IMAGE, "file_name": "x" * 2000}], [], "its file_name is no string of 1 to 1,024"),
        ([{**IMAGE, "file_name": "\ud800.png"}], [], "its file_name is no Unicode text"),
        ([IMAGE, {**IMAGE, "file_name": "b.png"}], [], r"images\[1\]: its id 1 is that of another image"),
        ([IMAGE], [{**MARK, "image_id": {}}], r"annotations\[0\]: its image_id is no whole number"),
        ([IMAGE], [7], r"annotations\[0\] is no object"),
    ],
)
def test_files_that_are_not_right(tmp_path: Path, images: list[Any], marks: list[Any], message: str):
    write_image(tmp_path / "images/a.png")
    write_coco(tmp_path / "annotations.json", images, marks)
    with pytest.raises(SourceError, match=message) as why:
        run(tmp_path, tmp_path / "out")
    assert "annotations.json" in str(why.value) and len(str(why.value)) < 500
    assert not (tmp_path / "out/identity.json").exists()


@pytest.mark.parametrize(
    "document",
    [
        [{"image_id": 1, "category_id": 1, "segmentation": []}],
        [{"0": {"img_file_name": "a.png"}}],
        [{"0": 7}],
        [],
    ],
)
def test_lists_that_are_not_of_synthscars(tmp_path: Path, document: list[object]):
    write_image(tmp_path / "images/a.png")
    (tmp_path / "annotations.json").write_text(json.dumps(document))
    with pytest.raises(SourceError, match=r"is no record as SynthScars has it|is an empty list"):
        run(tmp_path, tmp_path / "out")


def test_stopped_resumed_and_changed(tmp_path: Path):
    cvat(tmp_path)
    whole, out = tmp_path / "whole", tmp_path / "out"
    run(tmp_path, whole)
    run(tmp_path, out)
    (out / "stats/000000.json").unlink()
    assert run(tmp_path, out).total.complete  # by a set that has not listed anything
    tar = "shards/000000.tar"
    assert (out / tar).read_bytes() == (whole / tar).read_bytes()
    with pytest.raises(OutputError, match=r"import\.crowd: null -> "):
        run(tmp_path, out, crowd="inside")
    (out / "stats/000000.json").unlink()
    write_coco(tmp_path / "annotations.json", [IMAGE], [])
    with pytest.raises(SourceError, match=r"annotations\.json; plan again into a new output"):
        run(tmp_path, out)


def test_a_file_takes_the_memory_of_its_bytes(tmp_path: Path):
    """Decoded whole, the objects of this file of 3 MB would take about eight times as much."""
    rng = np.random.default_rng(0)
    marks = [annotation(number, 1, [(rng.random(400) * 40).round(2).tolist()]) for number in range(1_000)]
    path = write_coco(tmp_path / "annotations.json", [IMAGE], marks)
    size = path.stat().st_size
    tracemalloc.start()
    try:
        annotations = read_annotations(str(path), (), Counter())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert size > 2_000_000 and annotations.regions == 1_000
    assert peak < 2.5 * size
