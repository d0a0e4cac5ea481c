"""Parquet files as a source: cells of every kind, neighbours read together, and files that are not right."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from actors.errors import Reject, SourceError
from factory.output.reference import Raw, Reference
from factory.recipe.source import Filter
from factory.sources.choice import Choice
from factory.sources.parquet import ParquetSource
from factory.sources.parquet_file import ParquetRows
from factory.store import remote


def write(path: Path, columns: dict[str, Any], group: int = 1000) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path, row_group_size=group)
    return path


def source(*urls: Path | str, image: Sequence[str] = ("image",), **options: Any) -> ParquetSource:
    return ParquetSource([str(url) for url in urls], image=image, **options)


def read(source: ParquetSource, references: Sequence[Reference]) -> list[Raw | Reject]:
    pairs = list(source.read(references))
    assert [reference for reference, _ in pairs] == list(references)
    return [raw for _, raw in pairs]


def images(count: int) -> list[bytes]:
    return [f"image {number}".encode() for number in range(count)]


def one(path: Path, cells: Any, **options: Any) -> list[Raw | Reject]:
    """What the rows of a file with one column `image` give."""
    opened = source(write(path / "a.parquet", {"image": cells}), **options)
    return read(opened, list(opened.list()))


def test_rows_are_items_with_readable_keys(tmp_path: Path) -> None:
    write(tmp_path / "train/part-0.parquet", {"image": images(5), "text": list("abcde")}, group=2)
    write(tmp_path / "train/part-1.parquet", {"image": images(1), "text": ["f"]})
    (tmp_path / "train/README.md").touch()
    opened = source(tmp_path, caption="text")
    listed = list(opened.list())
    assert opened.skipped == {"md": 1}
    assert [item.key.rpartition("-")[0] for item in listed] == [
        *(f"part-0_{row}" for row in range(5)),
        "part-1_0",
    ]
    assert [json.loads(item.member) for item in listed[:5]] == [
        {"group": 0, "row": 0},
        {"group": 0, "row": 1},
        {"group": 1, "row": 0},
        {"group": 1, "row": 1},
        {"group": 2, "row": 0},
    ]
    assert {item.caption for item in listed} == {""}
    info = (tmp_path / "train/part-0.parquet").stat()
    assert listed[0].version == f"{info.st_size}-{info.st_mtime}"
    assert read(opened, listed) == [
        *(Raw(data, None, text) for data, text in zip(images(5), "abcde", strict=True)),
        Raw(b"image 0", None, "f"),
    ]
    mixed = [listed[5], listed[3], listed[2], listed[0], listed[4]]
    assert [raw.caption for raw in read(opened, mixed) if isinstance(raw, Raw)] == list("fdcae")


STRUCT = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


@pytest.mark.parametrize(
    "cells",
    [
        pa.array([b"red", b"blue"], pa.binary()),
        pa.array([b"red", b"blue"], pa.large_binary()),
        pa.array([b"red", b"blue"], pa.binary_view()),
        pa.array([b"red", b"blue"]).dictionary_encode(),
        pa.array([{"bytes": b"red", "path": "/not/here"}, {"bytes": b"blue", "path": None}], STRUCT),
        pa.array([{"bytes": None, "path": "red.png"}, {"bytes": None, "path": "sub/blue.png"}], STRUCT),
        pa.array([{"path": "red.png"}, {"path": "sub/blue.png"}]),
        pa.array(["red.png", "sub/blue.png"]),
        pa.array([" red.png ", "./sub/blue.png"], pa.large_string()),
        pa.array(["red.png", "sub/blue.png"]).dictionary_encode(),
    ],
    ids=str,
)
def test_every_kind_of_cell(tmp_path: Path, cells: pa.Array) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "red.png").write_bytes(b"red")
    (tmp_path / "sub/blue.png").write_bytes(b"blue")
    assert one(tmp_path, cells) == [Raw(b"red", None, ""), Raw(b"blue", None, "")]


def test_cells_may_hold_urls(tmp_path: Path) -> None:
    memory = fsspec.filesystem("memory")
    memory.pipe_file("/shelf/a.png", b"over there")
    (tmp_path / "b.png").write_bytes(b"here")
    write(tmp_path / "a.parquet", {"image": [f"file://{tmp_path}/b.png", f"{tmp_path}/b.png"]})
    opened = source(tmp_path)
    assert read(opened, list(opened.list())) == [Raw(b"here", None, "")] * 2

    with fsspec.open("memory://shelf/a.parquet", "wb") as stream:
        pq.write_table(pa.table({"image": ["a.png", "memory://shelf/a.png", f"{tmp_path}/b.png"]}), stream)
    opened = source("memory://shelf")
    *good, bad = read(opened, list(opened.list()))
    assert good == [Raw(b"over there", None, "")] * 2
    assert isinstance(bad, Reject)
    assert bad.reason == "url_not_allowed", "a file from elsewhere does not pick files of this machine"
    memory.store.clear()


def test_what_is_wrong_with_a_cell_is_its_items(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "LARGEST_FILE", 9)
    (tmp_path / "big.png").write_bytes(bytes(10))
    (tmp_path / "good.png").write_bytes(b"good")
    (tmp_path / "folder").mkdir()
    cells = {
        None: "no_image",
        "": "no_image",
        "gone.png": "missing",
        "big.png": "too_many_bytes",
        "../good.png": "url_not_allowed",
        "a/../../good.png": "url_not_allowed",
        "zip://a::good.zip": "bad_url",
        "nosuch://a/b": "bad_url",
        "ftp://a/b": "bad_url",
        "a\0.png": "bad_url",
        "folder": "bad_url",
        f"{'x' * 300}.png": "missing",
        "http:///x.png": "bad_url",
        "good.png": None,
    }
    found = one(tmp_path, pa.array(list(cells), pa.string()))
    assert [raw.reason if isinstance(raw, Reject) else None for raw in found] == list(cells.values())
    found = one(tmp_path, pa.array([None, b"0123456789", b"", b"012345678"]))
    reasons = [raw.reason if isinstance(raw, Reject) else raw.image for raw in found]
    assert reasons == ["no_image", "too_many_bytes", b"", b"012345678"]
    found = one(tmp_path, pa.array([None, {"bytes": None, "path": None}], STRUCT))
    assert [raw.reason for raw in found if isinstance(raw, Reject)] == ["no_image"] * 2


def test_masks_and_captions_and_their_nulls(tmp_path: Path) -> None:
    broken = pa.Array.from_buffers(  # text that is not UTF-8, as some writers leave it
        pa.string(), 1, pa.array([b"caf\xe9"]).buffers()
    )
    text = pa.concat_arrays([pa.array([" a car ", None]), broken])
    columns = {"jpg": images(3), "mask": [b"m", None, b"n"], "text": text}
    opened = source(write(tmp_path / "a.pq", columns), image=["png", "jpg"], mask="mask", caption="text")
    first, second, third = read(opened, list(opened.list()))
    assert first == Raw(b"image 0", b"m", "a car")
    assert second == Raw(b"image 1", None, "")
    assert isinstance(third, Reject)
    assert third.reason == "bad_caption"


@pytest.mark.parametrize(
    ("columns", "options", "words"),
    [
        ({"img": images(1), "text": ["a"]}, {}, "no column 'image'.*its columns are: 'img', 'text'"),
        ({"image": images(1)}, {"caption": "txt"}, "no column 'txt', which source.fields.caption names"),
        ({"image": images(1)}, {"mask": "m"}, "no column 'm', which source.fields.mask"),
        ({"image": [1.5]}, {}, "'image' holds double; source.fields.image wants bytes"),
        ({"image": [[b"a"]]}, {}, "'image' holds list"),
        ({"image": [{"data": b"a"}]}, {}, "'image' holds struct<data: binary>"),
        ({"image": images(1), "t": [["a"]]}, {"caption": "t"}, "'t' holds list.*wants text"),
        (
            {"image": images(1)},
            {"choice": Choice(filters=(Filter(field="width", least=3),))},
            "no column 'width', which source.filters names",
        ),
    ],
)
def test_columns_that_will_not_do(
    tmp_path: Path, columns: dict[str, Any], options: dict[str, Any], words: str
) -> None:
    path = write(tmp_path / "a.parquet", columns)
    with pytest.raises(SourceError, match=words) as caught:
        list(source(path, **options).list())
    assert str(path) in str(caught.value)


def test_a_column_whose_name_is_there_twice_is_none(tmp_path: Path) -> None:
    table = pa.Table.from_arrays([pa.array([b"a"]), pa.array([b"b"])], names=["image", "image"])
    pq.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(SourceError, match="its columns are: none"):
        list(source(tmp_path).list())


@pytest.mark.parametrize("damage", ["cut", "empty", "text", "footer", "magic"])
def test_a_file_that_is_no_whole_parquet_is_named(tmp_path: Path, damage: str) -> None:
    path = write(tmp_path / "a.parquet", {"image": images(500)})
    data = bytearray(path.read_bytes())
    size = len(data)
    match damage:
        case "cut":
            data = data[: size // 2]
        case "empty":
            data.clear()
        case "text":
            data[:] = b"version https://git-lfs.github.com/spec/v1\n"
        case "footer":
            start = size - 8 - int.from_bytes(data[-8:-4], "little")
            data[start : start + 64] = b"\xff" * 64
        case _:
            data[size - 8 :] = b"\xff\xff\xff\x7fPAR1"
    path.write_bytes(data)
    with pytest.raises(SourceError, match=r"a\.parquet is damaged or no Parquet"):
        list(source(path).list())


def test_damage_in_a_column_is_found_when_it_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", {"image": [os.urandom(100) for _ in range(50)]})
    data = bytearray(path.read_bytes())
    start = pq.ParquetFile(path).metadata.row_group(0).column(0).data_page_offset
    data[start : start + 20] = b"\xff" * 20
    path.write_bytes(data)
    opened = source(path)
    listed = list(opened.list())
    assert len(listed) == 50, "the listing reads no images"
    with pytest.raises(SourceError, match="is damaged"):
        read(opened, listed)


def test_a_store_that_fails_is_no_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = source(write(tmp_path / "a.parquet", {"image": images(3)}))
    listed = list(opened.list())

    def fail(*_: object) -> bytes:
        raise ConnectionResetError("the line is down")

    monkeypatch.setattr(remote, "read_bytes", fail)
    with pytest.raises(ConnectionResetError, match="the line is down"):
        read(opened, listed)


def test_a_file_that_changes_or_goes_stops_the_run(tmp_path: Path) -> None:
    opened = source(write(tmp_path / "a.parquet", {"image": images(3)}))
    listed = list(opened.list())
    write(tmp_path / "a.parquet", {"image": images(4)})
    with pytest.raises(SourceError, match=r"changed since it was planned: .*a\.parquet"):
        read(opened, listed)
    (tmp_path / "a.parquet").unlink()
    with pytest.raises(SourceError, match=r"gone since it was planned: .*a\.parquet"):
        read(opened, listed)


def test_neighbours_are_read_together_and_nothing_after_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = source(write(tmp_path / "a.parquet", {"image": images(300)}, group=100))
    listed = list(opened.list())
    batches: list[tuple[int, int]] = []
    whole = ParquetRows.batches

    def counted(self: ParquetRows, group: int, columns: Sequence[str], at_once: int) -> Any:
        for batch in whole(self, group, columns, at_once):
            batches.append((group, len(batch)))
            yield batch

    monkeypatch.setattr(ParquetRows, "batches", counted)
    assert len(read(opened, listed[90:120])) == 30
    rows = {group: sum(size for number, size in batches if number == group) for group in (0, 1, 2)}
    assert rows[0] == 100
    assert 20 <= rows[1] < 40
    assert rows[2] == 0


def test_a_large_row_group_is_read_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    cells = [random.bytes(100_000) for _ in range(200)]
    path = tmp_path / "a.parquet"
    pq.write_table(
        pa.table({"image": cells}), path, compression=None, data_page_size=100_000, write_batch_size=4
    )
    asked: list[int] = []
    whole = remote.read_bytes

    def counted(files: Any, path: str, start: int, end: int) -> bytes:
        asked.append(end - start)
        return whole(files, path, start, end)

    monkeypatch.setattr(remote, "read_bytes", counted)
    opened = source(path)
    listed = list(opened.list())
    assert sum(asked) < 200_000, "the listing reads the footer only"
    asked.clear()
    assert read(opened, listed[:3]) == [Raw(cell, None, "") for cell in cells[:3]]
    assert max(asked) <= 4 << 20
    assert sum(asked) < 10 << 20


def test_filters_look_at_columns(tmp_path: Path) -> None:
    columns = {
        "image": images(6),
        "width": pa.array([512, 100, None, 700, 600, 512]),
        "score": [0.5, 0.9, 0.9, float("nan"), 0.9, 0.8],
        "license": pa.array(["by", "by", "by", "by", "nc", "cc0"]).dictionary_encode(),
    }
    filters = (
        Filter(field="width", least=512),
        Filter(field="score", least=0.5, most=1),
        Filter(field="license", any_of=["by", "cc0"]),
    )
    opened = source(write(tmp_path / "a.parquet", columns, group=4), choice=Choice(filters=filters))
    listed = list(opened.list())
    assert [raw.image for raw in read(opened, listed) if isinstance(raw, Raw)] == [b"image 0", b"image 5"]
    assert opened.skipped == {"filtered": 3, "filter_field_missing": 1}
    assert [item.key for item in listed] == [
        item.key for number, item in enumerate(source(tmp_path).list()) if number in (0, 5)
    ], "a filter leaves the keys as they are"


def test_a_listing_does_not_grow_with_its_rows(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    rows = 20_000
    table = pa.table(
        {
            "image": pa.array([b"not an image " * 8] * rows),
            **{f"c{number}": pa.array(range(number, number + rows)) for number in range(9)},
        }
    )
    with pq.ParquetWriter(path, table.schema) as writer:
        for _ in range(10):
            writer.write_table(table, row_group_size=5_000)
    opened = source(
        path, choice=Choice(share=0.5, filters=(Filter(field="c3", least=0), Filter(field="c4", most=9e9)))
    )
    count, blocks, arrow = 0, [], pa.total_allocated_bytes()
    for count, _ in enumerate(opened.list(), start=1):
        if count in (5_000, 95_000):
            blocks.append(sys.getallocatedblocks())
            assert pa.total_allocated_bytes() - arrow < 4 << 20
    assert count + opened.skipped["not_sampled"] == 200_000
    assert 99_000 < count < 101_000
    assert blocks[1] - blocks[0] < 20_000, "a kept row would be several blocks"
