"""Score maps from outside: the levels of PNGs and arrays by hand, and everything that is refused."""

from __future__ import annotations

import io
import pickle

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from actors.errors import Reject
from actors.images import encode_mask
from eval.predictions.score_map import decode_scores, resized

LEVELS = np.array([[0, 1, 128], [200, 254, 255]], np.uint8)
SCORES = np.array([[0, 0.25, 0.5], [0.75, 1, 0.125]])

NOISE = np.random.default_rng(0).integers(0, 65536, (9, 9), dtype=np.uint16)


def png(levels: NDArray[np.generic] | Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image = levels if isinstance(levels, Image.Image) else Image.fromarray(levels)
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def npy(values: object, *, pickled: bool = False) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.asarray(values), allow_pickle=pickled)
    return buffer.getvalue()


def forged(header: str) -> bytes:
    text = header.ljust(117).encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


def test_levels_of_images_are_shares_of_the_largest_of_their_depth() -> None:
    wanted = [[0, 1 / 255, 128 / 255], [200 / 255, 254 / 255, 1]]
    assert decode_scores(png(LEVELS), "map.png") == pytest.approx(np.array(wanted), abs=1e-7)
    sixteen = LEVELS.astype(np.uint16) * 200 + 3
    wanted = [[3 / 65535, 203 / 65535, 25603 / 65535], [40003 / 65535, 50803 / 65535, 51003 / 65535]]
    found = decode_scores(png(sixteen), "png")
    assert found == pytest.approx(np.array(wanted), abs=1e-7)
    assert found.dtype == np.float32 and found.shape == (2, 3)
    assert decode_scores(encode_mask(LEVELS > 199), "map.png").tolist() == [[0, 0, 0], [1, 1, 1]]


def test_masks_have_the_scores_0_and_1_however_they_are_stored() -> None:
    inside = LEVELS > 199
    for data in (encode_mask(inside), png(inside.astype(np.uint8)), png(inside.astype(np.uint8) * 255)):
        assert decode_scores(data, "mask.png").tolist() == [[0, 0, 0], [1, 1, 1]]


@pytest.mark.parametrize("kind", ["<f2", "<f4", "<f8", ">f4", ">f2"])
def test_floats_are_taken_as_they_are(kind: str) -> None:
    for values in (SCORES, np.asfortranarray(SCORES), SCORES[None]):
        found = decode_scores(npy(values.astype(kind)), "map.npy")
        assert found.tolist() == SCORES.tolist() and found.dtype == np.float32


@pytest.mark.parametrize(("kind", "largest"), [("u1", 255), ("<u2", 65535), (">u2", 65535)])
def test_unsigned_integers_are_shares_of_their_largest(kind: str, largest: int) -> None:
    found = decode_scores(npy(np.array([[0, 51], [204, largest]], kind)), "npy")
    assert found == pytest.approx(np.array([[0, 51 / largest], [204 / largest, 1]]), abs=1e-7)


@pytest.mark.parametrize(
    ("data", "reason", "message"),
    [
        (npy(np.array([[0, np.nan]])), "not_finite", "1 of its numbers are NaN or infinite"),
        (npy(np.array([[0.5, np.inf], [-np.inf, np.nan]])), "not_finite", "3 of its numbers"),
        (npy(np.array([[1e300, 0.5]])), "out_of_range", "from 0.5 to 1e\\+300"),
        (npy(np.array([[-3.5, 0.5]])), "out_of_range", "go from -3.5 to 0.5; .* sigmoid or softmax"),
        (npy(np.array([[0.0, 255.0]])), "out_of_range", "go from 0 to 255"),
        (npy(np.array([[0, 1]])), "bad_map", "holds int64; save float32"),
        (npy(np.array([[True]])), "bad_map", "holds bool"),
        (npy(np.array([[1 + 1j]])), "bad_map", "holds complex128"),
        (npy(np.zeros(4, np.float32)), "bad_map", r"its shape is \(4,\)"),
        (npy(np.zeros((2, 3, 4), np.float32)), "bad_map", r"its shape is \(2, 3, 4\)"),
        (npy(np.zeros((0, 3), np.float32)), "bad_map", r"its shape is \(0, 3\)"),
        (npy([[{}]], pickled=True), "bad_map", "Python objects, which are pickled"),
        (npy(np.zeros((2, 2), [("a", "f4"), ("b", "f4")])), "bad_map", "save float32"),
        (pickle.dumps(SCORES), "damaged", "not an array as numpy.save writes it"),
        (b"", "damaged", "not an array"),
        (npy(SCORES)[:-1], "damaged", "47 bytes of numbers, its header promises 48"),
        (npy(SCORES) + b"x", "damaged", "49 bytes"),
        (npy(SCORES)[:60], "damaged", "not an array"),
        (
            forged("{'descr': '<f4', 'fortran_order': False, 'shape': (99999999, 99999999), }"),
            "too_many_pixels",
            "99999999 x 99999999 pixels",
        ),
        (
            forged("{'descr': '<f4', 'fortran_order': False, 'shape': (8000, 8000), }"),
            "damaged",
            "0 bytes of numbers, its header promises 256,000,000",
        ),
        (forged("{'descr': '<f4', 'fortran_order': False, 'shape': (-2, -2), }"), "bad_map", "its shape"),
        (forged("{'descr': '|O', 'fortran_order': False, 'shape': (1, 1), }"), "bad_map", "never loaded"),
        (forged("__import__('os').system('true')"), "damaged", "not an array"),
        (b"\x93NUMPY\x09\x00" + bytes(200), "damaged", "version 9.0"),
        (b"\x93NUMPY\x02\x00\xff\xff\xff\x7f" + b"(" * 9000, "damaged", "not an array"),
    ],
)
def test_arrays_that_are_refused(data: bytes, reason: str, message: str) -> None:
    with pytest.raises(Reject, match=message) as why:
        decode_scores(data, "npy")
    assert why.value.reason == reason


@pytest.mark.parametrize(
    ("data", "reason", "message"),
    [
        (png(np.dstack([LEVELS] * 3)), "bad_map", "a PNG of mode RGB; save it as a PNG of one grey channel"),
        (png(Image.fromarray(LEVELS).convert("P")), "bad_map", "mode P"),
        (png(LEVELS, transparency=3), "bad_map", "mode L"),
        (png(LEVELS, "JPEG"), "bad_map", "it is a JPEG, whose levels may not be exact"),
        (png(NOISE)[:200], "damaged", "cannot be decoded"),
        (npy(SCORES), "not_an_image", "not a PNG"),
        (b"", "empty", "no bytes"),
    ],
)
def test_images_that_are_refused(data: bytes, reason: str, message: str) -> None:
    with pytest.raises(Reject, match=message) as why:
        decode_scores(data, "map.png")
    assert why.value.reason == reason


def test_a_mask_that_is_a_heat_map_is_refused() -> None:
    with pytest.raises(Reject, match="a mask has 0 and 1"):
        decode_scores(png(np.arange(256, dtype=np.uint8).reshape(16, 16)), "mask.png")


def test_resizing_interpolates_and_stays_in_range() -> None:
    step = np.array([[0, 1]], np.float32)
    assert resized(step, (1, 4))[0] == pytest.approx([0, 0.25, 0.75, 1])  # by hand, at the pixels' centres
    assert resized(np.ones((5, 7), np.float32), (3, 2)).tolist() == [[1, 1]] * 3
    halves = resized(np.tile(step, (2, 2)), (1, 2))
    assert halves.shape == (1, 2) and halves.sum() == pytest.approx(1)
