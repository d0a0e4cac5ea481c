"""The join with Pick-a-Pic: places by uid over several files, and images read in the order of the places."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from actors.errors import SourceError
from benchmarks.richhf.simulated import POINTER, photo, write_pairs
from eval.richhf.pickapic import ImagePlace, Images, find_images, urls_of
from factory.output.reference import Raw


def found(folder: Path, uids: list[str]) -> list[tuple[str, ImagePlace]]:
    return list(find_images([str(folder / "train-*.parquet")], uids, Counter()))


def test_which_files():
    assert urls_of("hf://datasets/o/n/data/", "train") == ["hf://datasets/o/n/data/train-*.parquet"]
    assert urls_of("/data", "dev") == ["/data/train-*.parquet"]
    assert urls_of("/data", "test") == ["/data/test-*.parquet"]
    assert urls_of("/data/x.parquet", "test") == ["/data/x.parquet"]
    assert urls_of("/data/val*", "test") == ["/data/val*"]


def test_places_and_images(tmp_path: Path):
    write_pairs(tmp_path / "train-0.parquet", [f"a{n}" for n in range(10)], group=2)
    write_pairs(tmp_path / "train-1.parquet", ["a3", "b1", "b2"])
    places = found(tmp_path, ["b2", "a3", "a8", "nowhere", "b1"])
    assert [uid for uid, _ in places] == ["a3", "a8", "b1", "b2"]
    # Pairs: (a0, a1), (a2, a3) | (a4, a5), (a6, a7) | (a8, a9); the second a3 does not count.
    assert [(Path(p.url).name, p.group, p.row, p.side) for _, p in places] == [
        ("train-0.parquet", 0, 1, 1),
        ("train-0.parquet", 2, 0, 0),
        ("train-1.parquet", 0, 0, 1),
        ("train-1.parquet", 0, 1, 0),
    ]
    raws = list(Images().read([places[0][1], None, *(place for _, place in places[1:])]))
    assert raws[1] is None
    for (uid, _), raw in zip(places, [raws[0], *raws[2:]], strict=True):
        assert isinstance(raw, Raw) and raw.image == photo(uid, 64)
        assert raw.caption.startswith("a red house")


def test_no_file_is_read_after_the_last_uid(tmp_path: Path):
    write_pairs(tmp_path / "train-0.parquet", ["a", "b"])
    (tmp_path / "train-1.parquet").write_bytes(b"not Parquet at all")
    assert [uid for uid, _ in found(tmp_path, ["b"])] == ["b"]
    with pytest.raises(SourceError, match=r"train-1\.parquet is damaged or no Parquet"):
        found(tmp_path, ["b", "c"])


def test_files_that_are_not_pick_a_pic(tmp_path: Path):
    with pytest.raises(SourceError, match=r"train-\*\.parquet"):
        found(tmp_path, ["a"])
    (tmp_path / "train-0.parquet").write_bytes(POINTER)
    with pytest.raises(SourceError, match=r"train-0\.parquet is a Git LFS pointer.*git lfs pull"):
        found(tmp_path, ["a"])
    pq.write_table(pa.table({"image_0_uid": ["a"], "x": [1]}), tmp_path / "train-0.parquet")
    with pytest.raises(SourceError, match="no column 'image_1_uid', which the join with RichHF-18k names"):
        found(tmp_path, ["a"])


def test_a_file_that_changed(tmp_path: Path):
    write_pairs(tmp_path / "train-0.parquet", ["a", "b"])
    places = found(tmp_path, ["a"])
    write_pairs(tmp_path / "train-0.parquet", ["b", "a", "c"])
    with pytest.raises(SourceError, match="changed since it was planned"):
        list(Images().read([places[0][1]]))
