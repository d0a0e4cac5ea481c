"""Decoding: labels by hand, masks of every kind, and what is wrong with single samples."""

from __future__ import annotations

import io

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from actors.errors import BadSample, TrainingError
from actors.images import encode_image, encode_mask
from actors.masks import MaskReading
from train.data.labels import PARTS, Label, Part
from train.data.reading import Encoded
from train.data.samples import IGNORED, decode

IMAGE = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
NOISE = np.random.default_rng(0).integers(0, 255, (32, 32, 3), dtype=np.uint8)


def grey(levels: list[list[int]] | NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.array(levels, np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def encoded(image: bytes | None = None, **label: bytes) -> Encoded:
    files: dict[Part, bytes] = {part: label[part] for part in PARTS if part in label}  # type: ignore[misc]
    return Encoded("k", "x.tar, k", encode_image(IMAGE) if image is None else image, files)


LEFT = np.array([[1, 1, 0, 0]] * 4, np.bool_)
TOP = np.array([[1] * 4] * 2 + [[0] * 4] * 2, np.bool_)


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        ("mask", LEFT),
        ("changed", TOP),
        ("intersection", [[1, 1, 0, 0]] * 2 + [[0] * 4] * 2),
        ("judged", [[0, 0, 1, 1]] * 4),
        ("none", np.zeros((4, 4))),
    ],
)
def test_labels(label: Label, expected: NDArray[np.bool_]) -> None:
    maps = {"mask": encode_mask(LEFT), "changed": encode_mask(TOP), "judged": encode_mask(~LEFT)}
    sample = decode(encoded(**maps), label)
    assert sample.key == "k" and sample.image.dtype == sample.label.dtype == np.uint8
    assert (sample.image == IMAGE).all() and (sample.label == expected).all()


def test_ignored_pixels_and_what_is_known_in_spite_of_them() -> None:
    reading = MaskReading(ignore_index=128)
    mask, changed = [[0] * 3, [128] * 3, [255] * 3], [[0, 128, 255]] * 3
    one = encoded(encode_image(np.zeros((3, 3, 3), np.uint8)), mask=grey(mask), changed=grey(changed))
    assert decode(one, "mask", reading=reading).label.tolist() == [[0] * 3, [IGNORED] * 3, [1] * 3]
    assert decode(one, "intersection", reading=reading).label.tolist() == [
        [0, 0, 0],
        [0, IGNORED, IGNORED],
        [0, IGNORED, 1],
    ]


def test_an_image_is_turned_as_its_exif_says_and_its_label_with_it() -> None:
    """EXIF orientation 6: the stored image is to be turned clockwise by a quarter."""
    exif, buffer = Image.Exif(), io.BytesIO()
    exif[0x0112] = 6
    Image.fromarray(np.full((2, 3, 3), 200, np.uint8)).save(buffer, "PNG", exif=exif)
    stored = encoded(buffer.getvalue(), mask=grey([[255, 0, 0], [0, 0, 0]]))
    sample = decode(stored, "mask", reading=MaskReading(orientation="stored"))
    assert sample.image.shape == (3, 2, 3) and sample.label.tolist() == [[0, 1], [0, 0], [0, 0]]


SOUND = encode_mask(LEFT)


@pytest.mark.parametrize(
    ("files", "label", "reason", "words"),
    [
        ({"image": b""}, "none", "missing_image", "x.tar, k: the sample has no image"),
        (
            {},
            "mask",
            "missing_mask",
            "x.tar, k: the sample has no mask, and the label of its data set is mask",
        ),
        ({"mask": SOUND}, "intersection", "missing_changed", "x.tar, k: the sample has no changed"),
        ({"image": b"x"}, "none", "not_an_image", "x.tar, k: image: not a PNG, JPEG or WebP file"),
        (
            {"image": encode_image(NOISE)[:2000]},
            "none",
            "damaged",
            "x.tar, k: image: the image cannot be decoded",
        ),
        (
            {"mask": grey([[0, 255]])},
            "mask",
            "mask_size",
            "x.tar, k: mask: the mask is 2 x 1 pixels, the image 4 x 4",
        ),
        (
            {"changed": grey([[0, 255]])},
            "changed",
            "changed_size",
            "x.tar, k: changed: the mask is 2 x 1 pixels",
        ),
        ({"mask": b"x"}, "mask", "mask_not_an_image", "x.tar, k: mask: the mask: not a PNG"),
        (
            {"mask": grey(IMAGE[..., 0])},
            "mask",
            "bad_mask",
            "x.tar, k: mask: the mask is a PNG of mode L with the",
        ),
    ],
)
def test_samples_that_nothing_can_be_learned_from(
    files: dict[str, bytes], label: Label, reason: str, words: str
) -> None:
    with pytest.raises(BadSample) as caught:
        decode(encoded(**files), label)
    assert caught.value.reason == reason and str(caught.value).startswith(words)
    assert isinstance(caught.value, TrainingError)
    again = type(caught.value)(*caught.value.args)  # as it comes from a worker
    assert (again.reason, str(again)) == (reason, str(caught.value))
