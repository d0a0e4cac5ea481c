"""Labelled tars: what is read is what was written; what is wrong is reported with tar and key."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import fsspec
import numpy as np
import pytest
from PIL import Image

from actors.errors import EvaluationError, SourceError
from actors.images import encode_image, encode_mask
from actors.masks import MaskReading
from eval.labelled import read_labelled, samples_of, stream_labelled, stream_tar

IMAGES = np.random.default_rng(0).integers(0, 256, (3, 8, 10, 3), dtype=np.uint8)
MASKS = np.random.default_rng(1).random((3, 8, 10)) < 0.3


def tar_of(members: list[tuple[str, bytes]]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def sample(number: int, key: str) -> list[tuple[str, bytes]]:
    return [
        (f"{key}.image.png", encode_image(IMAGES[number])),
        (f"{key}.mask.png", encode_mask(MASKS[number])),
        (f"{key}.json", json.dumps({"caption": f"picture {number}"}).encode()),
    ]


def write(path: Path, *members: tuple[str, bytes]) -> str:
    path.write_bytes(tar_of(list(members)))
    return str(path)


def test_samples_of_several_tars(tmp_path: Path):
    write(tmp_path / "000001.tar", *sample(2, "folder/c"))
    write(tmp_path / "000000.tar", *sample(0, "a"), *sample(1, "b"), ("README.md", b"hello"))
    found = read_labelled([str(tmp_path)])
    assert found.keys == ["a", "b", "folder/c"]
    assert found.captions == ["picture 0", "picture 1", "picture 2"]
    assert np.array_equal(found.images, IMAGES) and found.images.dtype == np.uint8
    assert np.array_equal(found.masks, MASKS) and found.masks.dtype == np.bool_


def test_any_store_any_order_of_members_and_no_caption():
    image, mask, _ = sample(1, "b")
    with fsspec.open("memory://labelled/x-0.tar", "wb") as stream:
        stream.write(tar_of([mask, ("b.map.png", b"not looked at"), image]))
    found = read_labelled(["memory://labelled/x-{0..0}.tar"])
    assert found.keys == ["b"] and found.captions == [""]
    assert np.array_equal(found.masks, MASKS[1:2])


def test_masks_written_as_0_and_1(tmp_path: Path):
    buffer = io.BytesIO()
    Image.fromarray(MASKS[0].astype(np.uint8)).save(buffer, "PNG")
    url = write(tmp_path / "a.tar", sample(0, "a")[0], ("a.mask.png", buffer.getvalue()))
    assert np.array_equal(read_labelled([url]).masks[0], MASKS[0])


def encoded(levels: np.ndarray, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(levels).save(buffer, "PNG", **options)
    return buffer.getvalue()


RIM = np.zeros((8, 10), np.bool_)
RIM[0] = True


def test_ignored_pixels_are_no_truth_and_no_labels(tmp_path: Path):
    levels = np.where(RIM, np.uint8(255), MASKS[0])
    url = write(tmp_path / "a.tar", sample(0, "a")[0], ("a.mask.png", encoded(levels)), *sample(1, "b"))
    with pytest.raises(EvaluationError, match=r"a\.tar, a: mask\.png: .*levels 0 .*, 1 .*, 255"):
        read_labelled([url])
    found = read_labelled([url], reading=MaskReading(ignore_index=255))
    assert np.array_equal(found.masks, [MASKS[0] & ~RIM, MASKS[1]])
    assert found.ignored is not None and np.array_equal(found.ignored, [RIM, np.zeros_like(RIM)])
    assert np.array_equal(found.labels, [levels, MASKS[1].astype(np.uint8)])
    plain = read_labelled([write(tmp_path / "b.tar", *sample(1, "b"))])
    assert plain.ignored is None and np.array_equal(plain.labels, MASKS[1:2])


def test_masks_are_read_by_the_rules_of_a_build(tmp_path: Path):
    """Palettes by their index, transparency by its setting, turned images with their masks."""
    swapped = Image.fromarray(MASKS[0].astype(np.uint8), "P")
    swapped.putpalette([255, 255, 255, 0, 0, 0])
    buffer = io.BytesIO()
    swapped.save(buffer, "PNG")
    image = sample(0, "a")[0]
    url = write(tmp_path / "palette.tar", image, ("a.mask.png", buffer.getvalue()))
    assert np.array_equal(read_labelled([url]).masks[0], MASKS[0])
    hole = np.dstack([IMAGES[0], np.where(MASKS[0], 0, 255).astype(np.uint8)])
    url = write(tmp_path / "hole.tar", image, ("a.mask.png", encoded(hole)))
    with pytest.raises(EvaluationError, match="mode RGBA with transparent pixels"):
        read_labelled([url])
    assert np.array_equal(read_labelled([url], reading=MaskReading(alpha="transparent")).masks[0], MASKS[0])
    turned = Image.Exif()
    turned[0x0112] = 3
    parts = [("a.image.png", encoded(IMAGES[0], exif=turned)), ("a.mask.png", encode_mask(MASKS[0]))]
    url = write(tmp_path / "turned.tar", *parts)
    with pytest.raises(EvaluationError, match="EXIF orientation 3"):
        read_labelled([url])
    found = read_labelled([url], reading=MaskReading(orientation="stored"))
    assert np.array_equal(found.masks[0], MASKS[0][::-1, ::-1])
    assert np.array_equal(found.images[0], IMAGES[0][::-1, ::-1])


def test_unlabelled_sets_have_empty_masks(tmp_path: Path):
    url = write(tmp_path / "a.tar", sample(0, "a")[0], *sample(1, "b"))
    with pytest.raises(EvaluationError, match=r"a\.tar, a: mask\.png is missing"):
        read_labelled([url])
    found = read_labelled([url], unlabelled=True)
    assert not found.masks[0].any() and np.array_equal(found.masks[1], MASKS[1])


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("b.mask.png", encode_mask(MASKS[1][:7]), "the mask is 10 x 7 pixels, the image 10 x 8"),
        ("b.image.png", encode_image(IMAGES[1][:, :9]), "the image is 9 x 8 pixels, those before it 10 x 8"),
        ("b.image.png", b"no picture", "image.png: not a PNG, JPEG or WebP file"),
        ("b.mask.png", encode_mask(MASKS[1])[:60], "mask.png: the mask: the image cannot be decoded"),
        ("b.json", b"{", "json is not JSON"),
    ],
)
def test_what_is_wrong_with_a_sample_is_reported(tmp_path: Path, name: str, data: bytes, message: str):
    members = {**dict(sample(1, "b")), name: data}
    if name == "b.image.png" and b"PNG" in data:
        members["b.mask.png"] = encode_mask(MASKS[1][:, :9])
    url = write(tmp_path / "set.tar", *sample(0, "a"), *members.items())
    with pytest.raises(EvaluationError) as error:
        read_labelled([url])
    assert "set.tar, b" in str(error.value) and message in str(error.value)


def test_a_mask_without_an_image_and_a_file_twice(tmp_path: Path):
    url = write(tmp_path / "a.tar", sample(0, "a")[1])
    with pytest.raises(EvaluationError, match=r"a\.tar, a: image\.png or image\.webp is missing"):
        read_labelled([url])
    url = write(tmp_path / "b.tar", *sample(0, "b"), sample(1, "b")[0])
    with pytest.raises(EvaluationError, match=r"b\.tar, b: it has image\.png twice"):
        read_labelled([url])


def test_no_samples_and_no_tars(tmp_path: Path):
    url = write(tmp_path / "a.tar", ("notes.txt", b"nothing here"))
    with pytest.raises(EvaluationError, match=r"a\.tar: no sample with image\.png"):
        read_labelled([url])
    with pytest.raises(SourceError, match="no such file"):
        read_labelled([str(tmp_path / "b.tar")])


def test_names_from_outside_lead_nowhere(tmp_path: Path):
    outside = [(f"../{name}", data) for name, data in sample(1, "b")]
    url = write(tmp_path / "a.tar", *sample(0, "a"), *outside)
    assert read_labelled([url]).keys == ["a"]
    assert [path.name for path in tmp_path.iterdir()] == ["a.tar"]


def test_members_of_a_sample_may_lie_apart(tmp_path: Path) -> None:
    """The same rules as those of a factory's source."""
    members = [
        (name.upper().replace("A.", "a.") if name[0] == "a" else name, data) for name, data in sample(0, "a")
    ]
    others = [*sample(1, "b"), *sample(2, "c")]
    url = write(tmp_path / "a.tar", members[2], *others[::2], *members[:2], *others[1::2])
    found = read_labelled([url])
    assert (found.keys, found.captions) == (["a", "b", "c"], [f"picture {number}" for number in range(3)])
    assert np.array_equal(found.masks, MASKS)
    for again in (sample(0, "b"), [("b.IMAGE.PNG", b"")]):
        with pytest.raises(
            EvaluationError, match=r"a\.tar, b: it has image\.png twice|b: it has IMAGE\.PNG twice"
        ):
            read_labelled([write(tmp_path / "a.tar", *others, *again)])
        with pytest.raises(EvaluationError, match=r"(?i)a\.tar, c: it has image\.png twice"):
            read_labelled(
                [write(tmp_path / "a.tar", *others, *[(f"c{name[1:]}", data) for name, data in again])]
            )


def grey(levels: np.ndarray, **more: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(levels).save(buffer, "PNG", **more)
    return buffer.getvalue()


def webp(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "WEBP", lossless=True)
    return buffer.getvalue()


OBJECTS = np.repeat(np.arange(8, dtype=np.uint8)[:, None], 10, axis=1)


def test_webp_objects_and_scores(tmp_path: Path):
    """One image of each format; objects, and a score, of the first only."""
    first = [
        ("a.image.webp", webp(IMAGES[0])),
        ("a.mask.png", encode_mask(MASKS[0])),
        ("a.objects.png", grey(OBJECTS)),
        ("a.json", b'{"artifact_score": 0.25, "caption": "x"}'),
    ]
    url = write(tmp_path / "a.tar", *first, *sample(1, "b"))
    a, b = stream_labelled([url])
    assert np.array_equal(a.image, IMAGES[0]) and np.array_equal(a.objects, OBJECTS)
    assert (a.artifact_score, a.caption) == (0.25, "x")
    assert np.array_equal(b.image, IMAGES[1]) and b.objects is None and b.artifact_score is None
    assert len({a.digest, b.digest}) == 2 and len(a.digest) == 32
    assert read_labelled([url]).objects is None
    only = read_labelled([write(tmp_path / "b.tar", *first)])
    assert only.objects is not None and np.array_equal(only.objects, OBJECTS[None])
    assert np.array_equal(next(samples_of(only, "set")).objects, OBJECTS)


@pytest.mark.parametrize("score", ['"0.5"', "true", "NaN", "1e400", "null", "[1]"])
def test_scores_that_are_no_numbers_count_as_missing(tmp_path: Path, score: str):
    url = write(
        tmp_path / "a.tar", *sample(0, "a")[:2], ("a.json", f'{{"artifact_score": {score}}}'.encode())
    )
    assert next(stream_labelled([url])).artifact_score is None


@pytest.mark.parametrize(
    ("objects", "sentence"),
    [
        (grey(OBJECTS[:, :5]), r"objects\.png: found 5 x 8 pixels, and the upright image has 10 x 8"),
        (
            grey(OBJECTS.astype(np.uint16)),
            "found mode I;16 of 16 bits; labels of objects are an 8-bit grey PNG",
        ),
        (encode_image(IMAGES[0]), "found mode RGB of 8 bits"),
        (encode_mask(MASKS[0]), "found mode 1 of 1 bits"),
        (b"no image", r"objects\.png: not a PNG"),
    ],
)
def test_wrong_objects_are_named(tmp_path: Path, objects: bytes, sentence: str):
    url = write(tmp_path / "a.tar", *sample(0, "a"), ("a.objects.png", objects))
    with pytest.raises(EvaluationError, match=rf"a\.tar, a: .*{sentence}"):
        read_labelled([url])


def test_two_images_are_refused(tmp_path: Path):
    url = write(tmp_path / "a.tar", *sample(0, "a"), ("a.image.webp", webp(IMAGES[0])))
    with pytest.raises(EvaluationError, match=r"a\.tar, a: it has image\.png and image\.webp"):
        read_labelled([url])


def test_some_samples_of_a_tar(tmp_path: Path):
    url = write(tmp_path / "a.tar", *(part for number in range(3) for part in sample(number, f"k{number}")))
    found = list(stream_tar(url, places={0, 2}))
    assert [(place, one.key) for place, one in found] == [(0, "k0"), (2, "k2")]
