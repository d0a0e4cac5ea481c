"""Which items are taken: sampling, filters and the limit, over every kind of source."""

from __future__ import annotations

import io
import json
import tarfile
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import date, datetime
from decimal import Decimal
from hashlib import sha256
from pathlib import Path

import pytest

from factory.output.reference import Raw, Reference
from factory.recipe.source import Filter
from factory.sources.choice import Candidate, Choice
from factory.sources.filters import fields_of, reason_against
from factory.sources.images import ImagesSource
from factory.sources.webdataset import WebDatasetSource


def candidates(keys: Sequence[str]) -> Iterator[Candidate]:
    for key in keys:
        yield Candidate(Reference(key, f"memory://{key}", "", "", ""), lambda: {"n": 1})


def taken(choice: Choice, keys: Sequence[str], skipped: Counter[str] | None = None) -> list[str]:
    return [item.key for item in choice(candidates(keys), Counter() if skipped is None else skipped)]


KEYS = [f"item-{number}" for number in range(2000)]


def test_sampling_depends_on_seed_and_key_alone() -> None:
    skipped: Counter[str] = Counter()
    some = taken(Choice(seed=3, share=0.25), KEYS, skipped)
    assert 430 < len(some) < 570
    assert skipped == {"not_sampled": 2000 - len(some)}
    assert some == [
        key for key in KEYS if int(sha256(f"3\0{key}\0sample".encode()).hexdigest()[:16], 16) < 0.25 * 2**64
    ]
    assert taken(Choice(seed=3, share=0.25), KEYS[::-3]) == [key for key in KEYS[::-3] if key in set(some)]
    assert set(some) < set(taken(Choice(seed=3, share=0.5), KEYS)), "a larger share keeps what it had"
    assert set(some) != set(taken(Choice(seed=4, share=0.25), KEYS))
    assert taken(Choice(seed=3), KEYS) == KEYS


def test_the_limit_is_of_what_is_left() -> None:
    skipped: Counter[str] = Counter()
    choice = Choice(seed=3, share=0.25, limit=7)
    assert taken(choice, KEYS, skipped) == taken(Choice(seed=3, share=0.25), KEYS)[:7]
    assert skipped["not_sampled"] < 100, "what comes after is not looked at"


@pytest.mark.parametrize(
    ("condition", "kept", "filtered", "wrong"),
    [
        ({"least": 3}, [3, 3.0, 4.5, Decimal("3.5")], [2, -1, float("nan")], ["3", True, [3], {"a": 3}]),
        ({"most": 3}, [3, 2.9, -7], [3.01, float("nan"), 10**30], ["2", False]),
        ({"least": 1, "most": 2}, [1, 1.5, 2], [0, 3], []),
        (
            {"least": "2020"},
            ["2020-01-01", "2021", date(2020, 1, 1), datetime(2022, 1, 1)],
            ["2019", ""],
            [2020],
        ),
        ({"any_of": ["a", 1, True]}, ["a", 1, 1.0, True], ["A", "1", 2, False, ""], [["a"]]),
        ({"none_of": ["a", 0]}, ["b", 1, False, "0"], ["a", 0, 0.0], [{}]),
        ({"least": 5, "none_of": [7]}, [5, 8], [7, 4], []),
    ],
)
def test_conditions(
    condition: dict[str, object], kept: list[object], filtered: list[object], wrong: list[object]
) -> None:
    one = Filter.model_validate({"field": "x", **condition})
    for values, reason in ((kept, ""), (filtered, "filtered"), (wrong, "filter_field_wrong_type")):
        assert [(value, reason_against({"x": value}, [one])) for value in values] == [
            (value, reason) for value in values
        ]
    for nothing in ({}, {"x": None}, {"y": 3}):
        assert reason_against(nothing, [one]) == "filter_field_missing"


def test_all_filters_hold_and_the_first_that_does_not_is_the_reason() -> None:
    filters = [Filter(field="a", least=1), Filter(field="b", any_of=["x"])]
    assert reason_against({"a": 1, "b": "x"}, filters) == ""
    assert reason_against({"a": 0}, filters) == "filtered"
    assert reason_against({"a": 1}, filters) == "filter_field_missing"
    assert Choice(filters=(*filters, filters[0])).fields == ("a", "b")


@pytest.mark.parametrize("data", [b"", b"{", b"[1]", b"\xff", b"[" * 100_000, b" " * ((1 << 20) + 1) + b"{}"])
def test_documents_that_are_none(data: bytes) -> None:
    assert getattr(fields_of(data), "reason", None) == "bad_metadata"


DOCUMENTS = {
    "a": b'{"width": 600, "license": "by"}',
    "b": b'{"width": 100, "license": "by"}',
    "c": b'{"license": "by"}',
    "d": b"no json",
    "e": None,
    "f": b'{"width": 512.5, "license": "cc0", "prompt": "an f"}',
    "g": b'{"width": "600"}',
}
FILTERS = (Filter(field="width", least=512),)
SKIPPED = {"filtered": 1, "filter_field_missing": 2, "bad_metadata": 1, "filter_field_wrong_type": 1}


def test_filters_of_images_look_at_the_json_beside_them(tmp_path: Path) -> None:
    for stem, document in DOCUMENTS.items():
        (tmp_path / f"{stem}.png").write_bytes(f"image {stem}".encode())
        if document is not None:
            (tmp_path / f"{stem}.json").write_bytes(document)
    source = ImagesSource([str(tmp_path)], choice=Choice(filters=FILTERS))
    listed = list(source.list())
    assert [Path(item.url).name for item in listed] == ["a.png", "f.png"]
    assert source.skipped == {**SKIPPED, "metadata": 6}
    assert [item.key for item in ImagesSource([str(tmp_path)]).list()][::5] == [item.key for item in listed]
    assert [raw for _, raw in source.read(listed)] == [Raw(b"image a", None, ""), Raw(b"image f", None, "")]
    short = ImagesSource([str(tmp_path)], choice=Choice(filters=FILTERS, limit=1))
    assert len(list(short.list())) == 1


def test_filters_of_tars_look_at_the_json_member(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        for stem, document in DOCUMENTS.items():
            for name, data in ((f"{stem}.png", f"image {stem}".encode()), (f"{stem}.json", document)):
                if data is not None:
                    info = tarfile.TarInfo(name)
                    info.size = len(data)
                    archive.addfile(info, io.BytesIO(data))
    source = WebDatasetSource([str(tmp_path)], caption="json:prompt", choice=Choice(filters=FILTERS))
    listed = list(source.list())
    assert [json.loads(item.member)["stem"] for item in listed] == ["a", "f"]
    assert source.skipped == SKIPPED
    plain = WebDatasetSource([str(tmp_path)], caption="json:prompt")
    assert listed == [item for item in plain.list() if item.key[2] in "af"], "references stay as they are"
    assert [raw for _, raw in source.read(listed)][1] == Raw(b"image f", None, "an f")
