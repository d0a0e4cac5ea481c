"""Folders of images and masks: paired by path and name, read by the one reader of masks, rejects with reasons."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from pydantic import ValidationError

from actors.errors import SourceError
from eval.imports.job import Imported, import_set
from eval.imports.verify import verify_import
from eval.mask_folders.data_set import MaskFolder, MaskFolderSettings
from eval.mask_folders.pairing import Item
from factory.output.reference import Reference
from factory.recipe.source import Masks
from factory.store.storage import Storage
from tests.coco_files import HEIGHT, WIDTH, Bools, read_samples, rectangle, write_image


def write_mask(path: Path, mask: Bools, *, inside: int = 1, mode: str = "L") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(mask.astype(np.uint8) * inside).convert(mode).save(path)


def run(folder: Path, out: Path, **settings: Any) -> Imported:
    places = {"images": str(folder / "images"), "masks": str(folder / "masks")}
    return import_set(MaskFolder(MaskFolderSettings(**{**places, **settings})), str(out), per_shard=3)


def reasons(out: Path) -> dict[str, str]:
    """Of every reject, by the path of its image."""
    rows = [row for path in sorted(out.glob("index/*.parquet")) for row in pq.read_table(path).to_pylist()]
    assert all(row["detail"] for row in rows if row["reason"])
    return {row["source"].partition("/images/")[2]: row["reason"] for row in rows if row["reason"]}


def pal4vst(folder: Path) -> dict[str, Bools]:
    """As mmseg keeps it: JPEGs, and PNGs of class numbers 0 and 1 under the same paths."""
    masks = {
        "train/a": rectangle(5, 5, 20, 20),
        "train/b": rectangle(0, 0, 60, 3) | rectangle(50, 30, 60, 40),
        "val/a": rectangle(0, 0, 0, 0),
        "val/c": rectangle(0, 0, 60, 40),
    }
    for number, (path, mask) in enumerate(masks.items()):
        write_image(folder / f"images/{path}.jpg", number)
        write_mask(folder / f"masks/{path}.png", mask)
    return masks


def test_pal4vst(tmp_path: Path):
    masks = pal4vst(tmp_path)
    found = run(tmp_path, tmp_path / "out")
    assert (found.total.accepted, found.total.rejected, found.total.skipped) == (4, 0, {})
    assert found.figures["samples with a mask"] == 3 and found.figures["samples with an empty mask"] == 1
    rows = [
        row for path in (tmp_path / "out").glob("index/*.parquet") for row in pq.read_table(path).to_pylist()
    ]
    areas = {row["source"].partition("/images/")[2][:-4]: row["mask_area"] for row in rows}
    assert areas == {path: mask.mean() for path, mask in masks.items()}
    assert len({row["key"] for row in rows}) == 4
    samples = read_samples(tmp_path / "out")
    assert np.array_equal(samples["b"]["mask.png"], masks["train/b"])
    original = np.asarray(Image.open(tmp_path / "images/train/b.jpg"))
    assert np.array_equal(samples["b"]["image.png"], original)
    assert verify_import(Storage(str(tmp_path / "out"))).sound
    run(tmp_path, tmp_path / "test", images=str(tmp_path / "images/val"), masks=str(tmp_path / "masks/val"))
    assert len(read_samples(tmp_path / "test")) == 2


def test_modes_of_masks(tmp_path: Path):
    mask = rectangle(10, 10, 30, 35)
    grey = np.where(mask, 255, 0).astype(np.uint8)
    palette = Image.fromarray(mask.astype(np.uint8), "P")
    palette.putpalette([0, 0, 0, 255, 0, 255])
    transparent = np.dstack([grey, grey, grey, grey])
    images = {
        "one": Image.fromarray(mask),
        "grey": Image.fromarray(grey),
        "deep": Image.fromarray(np.where(mask, 65535, 0).astype(np.uint16)),
        "palette": palette,
        "colours": Image.fromarray(grey).convert("RGB"),
    }
    for name, image in images.items():
        write_image(tmp_path / f"images/{name}.png")
        (tmp_path / "masks").mkdir(exist_ok=True)
        image.save(tmp_path / f"masks/{name}.png")
    Image.fromarray(grey).save(tmp_path / "masks/webp.webp", lossless=True)
    Image.fromarray(grey).save(tmp_path / "masks/jpeg.JPG", quality=90)
    for name in ("webp", "jpeg"):
        write_image(tmp_path / f"images/{name}.png")
    run(tmp_path, tmp_path / "out")
    samples = read_samples(tmp_path / "out")
    assert sorted(samples) == sorted([*images, "webp", "jpeg"])
    assert all(np.array_equal(sample["mask.png"], mask) for sample in samples.values())
    Image.fromarray(transparent).save(tmp_path / "masks/grey.png")
    run(tmp_path, tmp_path / "refused")
    assert reasons(tmp_path / "refused") == {"grey.png": "bad_mask"}
    run(tmp_path, tmp_path / "opaque", reading=Masks(alpha="opaque"))
    assert np.array_equal(read_samples(tmp_path / "opaque")["grey"]["mask.png"], mask)


def test_ignored_levels(tmp_path: Path):
    inside, unknown = rectangle(10, 10, 30, 35), rectangle(30, 10, 40, 35)
    write_image(tmp_path / "images/a.png")
    (tmp_path / "masks").mkdir()
    levels = np.where(unknown, 255, inside).astype(np.uint8)
    Image.fromarray(levels).save(tmp_path / "masks/a.png")
    found = run(tmp_path, tmp_path / "out", reading=Masks(ignore_index=255))
    mask = read_samples(tmp_path / "out")["a"]["mask.png"]
    assert np.array_equal(mask, np.where(unknown, 127, np.where(inside, 255, 0)))
    assert found.figures["samples with ignored pixels"] == 1
    run(tmp_path, tmp_path / "refused")
    assert reasons(tmp_path / "refused") == {"a.png": "bad_mask"}


def test_what_is_not_a_pair(tmp_path: Path):
    mask = rectangle(5, 5, 20, 20)
    for name in (
        "good.png",
        "alone.png",
        "twice.png",
        "same.png",
        "same.jpg",
        "size.png",
        "text.png",
        "levels.png",
    ):
        write_image(tmp_path / "images" / name)
    (tmp_path / "images/damaged.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (tmp_path / "images/.hidden.png").write_bytes(b"x")
    (tmp_path / "images/notes.txt").write_text("x")
    for name in (
        "good.png",
        "twice.png",
        "twice.webp",
        "same.png",
        "damaged.png",
        "orphan.png",
        "sub/good.png",
    ):
        write_mask(tmp_path / "masks" / name, mask)
    write_mask(tmp_path / "masks/size.png", rectangle(0, 0, 5, 5, size=(HEIGHT, WIDTH)))
    (tmp_path / "masks/text.png").write_text("not an image")
    Image.fromarray((mask * 3 + rectangle(30, 5, 40, 20) * 7).astype(np.uint8)).save(
        tmp_path / "masks/levels.png"
    )
    found = run(tmp_path, tmp_path / "out")
    assert reasons(tmp_path / "out") == {
        "alone.png": "missing_mask",
        "twice.png": "several_masks",
        "same.png": "several_images",
        "same.jpg": "several_images",
        "size.png": "mask_size",
        "text.png": "mask_not_an_image",
        "levels.png": "bad_mask",
        "damaged.png": "image_damaged",
    }
    assert list(read_samples(tmp_path / "out")) == ["good"]
    assert found.total.skipped == {"mask_without_image": 2, "hidden": 1, "txt": 1}
    clean = run(tmp_path, tmp_path / "clean", missing="clean")
    assert (clean.total.accepted, clean.total.rejected) == (2, 7)
    assert not read_samples(tmp_path / "clean")["alone"]["mask.png"].any()


@pytest.mark.parametrize("folder", [None, "images", "images/marks"])
def test_names_with_a_part_more(tmp_path: Path, folder: str | None):
    """Masks among the images, or in a folder below theirs."""
    beside = tmp_path / (folder or "images")
    first, second = rectangle(5, 5, 20, 20), rectangle(0, 0, 9, 9)
    write_image(tmp_path / "images/a.jpg")
    write_image(tmp_path / "images/b_mask.v2.png")
    write_mask(beside / "a_mask.png", first)
    write_mask(beside / "b_mask.v2_mask.png", second)
    masks = None if folder is None else str(tmp_path / folder)
    found = run(tmp_path, tmp_path / "out", masks=masks, pattern="{stem}_mask")
    samples = read_samples(tmp_path / "out")
    assert found.total.accepted == 2 and found.total.rejected == 0
    assert np.array_equal(samples["a"]["mask.png"], first)
    assert np.array_equal(samples["b_mask_v2"]["mask.png"], second)


def test_masks_with_other_names_are_counted(tmp_path: Path):
    write_image(tmp_path / "images/a.jpg")
    for name in ("a_mask", "b_mask", "c", "_mask"):
        write_mask(tmp_path / f"masks/{name}.png", rectangle(5, 5, 20, 20))
    found = run(tmp_path, tmp_path / "out", pattern="{stem}_mask")
    assert (found.total.accepted, found.total.skipped) == (1, {"mask_without_image": 1, "other_name": 2})


def test_an_image_on_its_side(tmp_path: Path):
    exif = Image.Exif()
    exif[0x0112] = 6
    write_image(tmp_path / "images/a.jpg", exif=exif)
    stored = rectangle(0, 0, 30, 10)
    write_mask(tmp_path / "masks/a.png", stored)
    run(tmp_path, tmp_path / "out")
    assert np.array_equal(read_samples(tmp_path / "out")["a"]["mask.png"], np.rot90(stored, -1))


@pytest.mark.parametrize("pattern", ["mask", "{stem}{stem}", "x/{stem}", "{stem}"])
def test_patterns_that_are_not_allowed(pattern: str):
    with pytest.raises(ValidationError, match="allowed: "):
        MaskFolderSettings(images="images", masks=None, pattern=pattern)


def test_folders_that_do_not_fit(tmp_path: Path):
    write_image(tmp_path / "images/a.png")
    write_mask(tmp_path / "masks/b.png", rectangle(0, 0, 5, 5))
    with pytest.raises(SourceError, match=r"no image in .* the first image is a\.png, the first mask b\.png"):
        run(tmp_path, tmp_path / "out")
    with pytest.raises(SourceError, match="is no folder"):
        run(tmp_path, tmp_path / "out", masks=str(tmp_path / "nowhere"))
    with pytest.raises(SourceError, match="is no folder"):
        run(tmp_path, tmp_path / "out", images=str(tmp_path / "images/*.png"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceError, match="found no PNG, JPEG or WebP files"):
        run(tmp_path, tmp_path / "out", images=str(tmp_path / "empty"))


def test_a_mask_that_changed_since_it_was_planned(tmp_path: Path):
    pal4vst(tmp_path)
    out = tmp_path / "out"
    run(tmp_path, out)
    (out / "stats/000000.json").unlink()
    assert run(tmp_path, out).total.complete
    for number in (0, 1):
        (out / f"stats/00000{number}.json").unlink()
    write_mask(tmp_path / "masks/train/a.png", rectangle(0, 0, 60, 40), inside=255)
    with pytest.raises(SourceError, match=r"masks/train/a\.png; plan again into a new output"):
        run(tmp_path, out)


def test_a_plan_of_something_else():
    for member in ("", "{}", "[]", '{"mask":3,"image":[]}'):
        with pytest.raises(SourceError, match="does not say where the mask of the-key is"):
            Item.of(Reference("the-key", "/x.png", member, "", ""))
