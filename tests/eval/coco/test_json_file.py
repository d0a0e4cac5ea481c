"""A JSON file taken apart: the same elements as `json` finds, and a message for whatever is wrong with it."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from actors.errors import SourceError
from eval.coco import json_file
from eval.coco.json_file import JsonFile


def written(folder: Path, data: bytes | str) -> JsonFile:
    path = folder / "file.json"
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return JsonFile.read(str(path))


def found(file: JsonFile) -> dict[str, list[Any]]:
    elements: dict[str, list[Any]] = {"images": [], "annotations": []}
    for name, element in file.elements(elements.keys()):
        elements[name].append(file.decode(element))
    return elements


def value(rng: random.Random, depth: int) -> Any:
    kind = rng.randrange(6 if depth else 4)
    if kind == 4:
        return [value(rng, depth - 1) for _ in range(rng.randrange(4))]
    if kind == 5:
        return {text(rng): value(rng, depth - 1) for _ in range(rng.randrange(4))}
    return (rng.random() * 1e4 - 5e3, rng.randrange(10**9), rng.choice([None, True]), text(rng))[kind]


def text(rng: random.Random) -> str:
    return "".join(rng.choices('a"\\[]{},:é漢\n/', k=rng.randrange(6)))


@pytest.mark.parametrize("seed", range(20))
def test_the_same_elements_as_json(tmp_path: Path, seed: int):
    rng = random.Random(seed)
    document: dict[str, Any] = {f"{text(rng)}{number}": value(rng, 3) for number in range(3)}
    for name in ("images", "annotations"):
        document[name] = [{f"k{n}": value(rng, 3) for n in range(3)} for _ in range(rng.randrange(5))]
    document["tail"] = value(rng, 3)
    data = json.dumps(document, indent=rng.choice([None, 2]), ensure_ascii=bool(seed % 2))
    mark = b"\xef\xbb\xbf" if seed % 3 == 0 else b""
    file = written(tmp_path, mark + data.encode())
    assert found(file) == {name: document[name] for name in ("images", "annotations")}
    assert not file.is_array
    listed = written(tmp_path, json.dumps(document["images"]))
    assert listed.is_array
    assert [listed.decode(element) for element in listed.array()] == document["images"]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("", "is empty"),
        (" \n", "is empty"),
        (b"PK\3\4rest", "is a zip archive: unpack it"),
        (b"\x1f\x8b", "compressed with gzip"),
        ("<annotations>", "HTML or XML"),
        ("version https://git-lfs.github.com/spec/v1", "a Git LFS pointer"),
        ('{"images": []}'.encode("utf-16"), "UTF-16"),
        ("7", "byte 0: it begins with no object"),
        ('{"images": [', "byte 12: a comma or ] is expected|is no object|has no end"),
        ('{"images": [{"a": 1}', "byte 20: a comma or ] is expected"),
        ('{"images": [{"a": "1}]}', r"byte 12: images\[0\] has no end: the file is cut off, or damaged"),
        ('{"images": [{"a": ["]}]', r"images\[0\] has no end"),
        ('{"images": [7]}', r"images\[0\] is no object"),
        ('{"images": [{}, null]}', r"images\[1\] is no object"),
        ('{"images": [{},]}', "nothing follows a comma"),
        ('{"images": [{} {}]}', "a comma or ] is expected"),
        ('{"images": [], "images": []}', "images is there twice"),
        ('{"images" []}', "a colon is expected"),
        ("{images: []}", "a key is expected"),
        ('{"a": "x', "a value is expected"),
        ('{"a": }', "a value is expected"),
        ('{"a": [1, [2]', "a value has no end"),
        ('{"images": [{"a": nul}]}', r"images\[0\] is no JSON"),
        (b'{"images": [{"a": "\xff"}]}', r"images\[0\] is no JSON"),
        ('{"images": [{"a": ' + "9" * 5000 + "}]}", r"images\[0\] is no JSON"),
        ('{"images": [{"a": ' + "[" * 100_000 + "]" * 100_000 + "}]}", r"images\[0\] is no JSON"),
        ('{"images": [{"a": ]}}]}', r"images\[0\]|a comma"),
        ('{"\\ud8": 1}', "a key is no JSON"),
    ],
)
def test_files_that_are_not_right(tmp_path: Path, data: bytes | str, message: str):
    with pytest.raises(SourceError, match=message) as why:
        found(written(tmp_path, data))
    assert "file.json" in str(why.value) and len(str(why.value)) < 1000


def test_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(json_file, "LARGEST_ELEMENT", 100)
    element = json.dumps({"a": "x" * 100})
    with pytest.raises(SourceError, match=r"annotations\[1\] has more than 100 bytes"):
        found(written(tmp_path, f'{{"info": {element}, "annotations": [{{}}, {element}]}}'))
    monkeypatch.setattr(json_file, "LARGEST_JSON", 10)
    with pytest.raises(SourceError, match="has 11 bytes; at most 10 are read: split it by images"):
        written(tmp_path, '{"a": 1111}')


def test_a_file_that_is_missing(tmp_path: Path):
    for path in (tmp_path / "none.json", tmp_path):
        with pytest.raises(SourceError, match="there is no such file"):
            JsonFile.read(str(path))
