"""Captions from text and JSON files."""

from __future__ import annotations

import pytest

from actors.errors import Reject
from factory.sources.caption import CaptionField


@pytest.mark.parametrize(
    ("field", "data", "caption"),
    [
        ("txt", b"a red car\n", "a red car"),
        ("txt", b"\xef\xbb\xbfa caf\xc3\xa9", "a café"),
        ("txt", b"", ""),
        ("json:prompt", b'{"prompt": " a dog ", "other": 1}', "a dog"),
        ("json:prompt", b'{"prompt": null}', ""),
        ("json:prompt", b'{"prompt": ["a dog ", "and a cat"]}', "a dog  and a cat"),
        ("json:prompt", b'{"prompt": []}', ""),
        ("json:a.b", b'{"a.b": "x"}', "x"),
    ],
)
def test_captions(field: str, data: bytes, caption: str) -> None:
    where = CaptionField.parse(field)
    assert where is not None
    assert where.read(data, "x.txt") == caption


@pytest.mark.parametrize(
    ("field", "data", "words"),
    [
        ("txt", b"caf\xe9", "not UTF-8"),
        ("json:prompt", b'{"promt": "x", "id": 3}', "no field 'prompt'; its fields are: 'promt', 'id'"),
        ("json:prompt", b"{}", "its fields are: none"),
        ("json:prompt", b'["x"]', "JSON list"),
        ("json:prompt", b'{"prompt": ["a", 1]}', "prompt is a list"),
        ("json:prompt", b'{"prompt": "a', "not JSON"),
        ("json:prompt", b'{"prompt": "\\ud800"}', "not JSON"),
        ("json:prompt", b"[" * 100_000, "not JSON"),
        ("json:prompt", b'{"prompt": ' + b"9" * 5000 + b"}", "not JSON"),
    ],
)  # fmt: skip
def test_bad_captions_are_the_items_fault(field: str, data: bytes, words: str) -> None:
    where = CaptionField.parse(field)
    assert where is not None
    with pytest.raises(Reject, match=words) as caught:
        where.read(data, "x.json")
    assert caught.value.reason == "bad_caption"
    assert "x.json" in caught.value.detail


def test_no_caption_is_asked_for() -> None:
    assert CaptionField.parse(None) is None


def test_what_is_reported_of_a_bad_caption_is_short() -> None:
    where = CaptionField.parse("json:prompt")
    assert where is not None
    with pytest.raises(Reject) as caught:
        where.read(b'{"' + b"k" * 900_000 + b'": 1}', "x.json")
    assert len(caught.value.detail) < 150
