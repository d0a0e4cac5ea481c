"""Records of RichHF-18k: messages encoded by hand, fields that are wrong, maps of every mode."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from PIL import Image

from actors.errors import Reject
from benchmarks.richhf.simulated import encode, example, features
from eval.richhf.record import SCORES, decode_map, labelled_tokens, parse_record, tokens_of, uid_in

MAP = encode(np.zeros((8, 8), np.uint8))


def wrong(changes: Mapping[str, Any]) -> Reject:
    with pytest.raises(Reject) as why:
        parse_record(example({**features("uid", MAP, MAP), **changes}))
    return why.value


def test_a_record():
    given = features("0a1b-2c", b"one", b"two", [0, 1, 1, 0], score=0.25)
    record = parse_record(example(given))
    assert record.uid == "0a1b-2c"
    assert record.scores == dict.fromkeys(SCORES, 0.25)
    assert (record.artifact_map, record.misalignment_map) == (b"one", b"two")
    assert record.token_labels == (0, 1, 1, 0)


@pytest.mark.parametrize(
    ("filename", "uid"),
    [("a/b/c.d.png", "c"), ("c", "c"), ("train/0f-3.jpg", "0f-3"), ("c.png", "c")],
)
def test_the_uid_is_the_base_name_up_to_its_first_dot(filename: str, uid: str):
    assert uid_in(example({"filename": filename.encode()})) == uid


@pytest.mark.parametrize(
    "filename", [b"", b"a/.png", b"a/", b"a/b c.png", b"../..", b"x" * 200, "ü.png".encode()]
)
def test_names_that_are_no_uid(filename: bytes):
    with pytest.raises(Reject, match="uid") as why:
        uid_in(example({"filename": filename}))
    assert why.value.reason == "bad_filename"


def test_features_that_are_wrong():
    found = wrong({"artifact_score": 3})
    assert found.reason == "bad_feature" and "artifact_score holds 1 values in int64_list" in found.detail
    assert "overall_score holds no value" in wrong({"overall_score": None}).detail
    assert "filename is not UTF-8" in wrong({"filename": b"\xff.png"}).detail
    assert wrong({"artifact_score": math.nan}).reason == "bad_score"
    assert wrong({"artifact_score": math.inf}).reason == "bad_score"
    for labels in (b"0 2", b"0,1", b"0 1 x", b"01"):
        assert wrong({"prompt_misalignment_label": labels}).reason == "bad_tokens", labels
    with pytest.raises(Reject, match="there is no feature aesthetics_score; there are: 'filename'"):
        parse_record(example({"filename": b"a.png"}))


@pytest.mark.parametrize("data", [b"\xff\xff\xff", b"\x0a\x7f", bytes([10, 4, 10, 2, 10, 200])])
def test_data_that_are_no_example(data: bytes):
    with pytest.raises(Reject) as why:
        parse_record(data)
    assert why.value.reason == "bad_example"


def test_every_truncation_of_a_record_is_a_reject():
    whole = example(features("uid", b"map", b"map"))
    for size in range(len(whole)):
        with pytest.raises(Reject):
            parse_record(whole[:size])


def test_no_labels():
    assert parse_record(example(features("uid", MAP, MAP, []))).token_labels == ()


def test_tokens_of_a_prompt():
    assert tokens_of('RichHF-18K: a "data set", for  images!?') == [
        "RichHF-18K",
        "a",
        "data",
        "set",
        "for",
        "images",
    ]
    assert labelled_tokens("a b", (1, 0)) == [("a", 1), ("b", 0)]
    with pytest.raises(Reject, match="has 2 tokens, prompt_misalignment_label 3") as why:
        labelled_tokens("a b", (1, 0, 1))
    assert why.value.reason == "token_count"


def test_maps_of_every_mode():
    levels = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4
    assert np.array_equal(decode_map(encode(levels), "m").levels, levels)
    assert np.array_equal(decode_map(encode(np.stack([levels] * 3, axis=2)), "m").levels, levels)
    assert not decode_map(encode(levels), "m").lossy
    jpeg = decode_map(encode(levels, "JPEG"), "m")
    assert jpeg.lossy and np.abs(jpeg.levels.astype(int) - levels).max() < 8
    buffer = io.BytesIO()
    Image.fromarray(levels > 100).save(buffer, "PNG")
    assert np.array_equal(decode_map(buffer.getvalue(), "m").levels, 255 * (levels > 100))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "map_empty"),
        (b"GIF89a", "map_not_an_image"),
        (encode(np.zeros((64, 64), np.uint8))[:60], "map_damaged"),
        (encode(np.full((8, 8, 3), (0, 90, 0), np.uint8)), "bad_map"),
        (encode(np.zeros((8, 8, 4), np.uint8)), "bad_map"),
        (encode(np.zeros((8, 8), np.uint16)), "bad_map"),
    ],
)
def test_maps_that_are_wrong(data: bytes, reason: str):
    with pytest.raises(Reject, match="misalignment_map: ") as why:
        decode_map(data, "misalignment_map")
    assert why.value.reason == reason
