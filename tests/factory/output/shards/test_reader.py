"""The reader of shards: what it gives, what it refuses, and that it holds one sample at a time."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import fsspec
import pytest

import tinytown
from actors.errors import OutputError, SourceError
from factory.output.shards.reader import ShardSample, read_shard, read_shard_of
from factory.output.shards.tar import write_tar
from factory.store.storage import Storage

SAMPLES = {
    "a": {"image.png": b"image", "json": b'{"caption": "a face", "seed": 7}'},
    "b": {"image.png": b"another", "mask.png": b"m" * 2000, "json": b"[1]"},
    "c": {"json": b"{"},
}


@pytest.fixture
def shard(tmp_path: Path) -> Path:
    path = tmp_path / "shards/000000.tar"
    path.parent.mkdir()
    path.write_bytes(write_tar(SAMPLES))
    return path


def members(found: list[ShardSample]) -> dict[str, dict[str, bytes]]:
    return {sample.key: dict(sample.members) for sample in found}


def test_samples_come_in_order_from_a_path_a_store_and_an_output(shard: Path):
    found = list(read_shard(str(shard)))
    assert [sample.key for sample in found] == ["a", "b", "c"] and members(found) == SAMPLES
    assert found[0].json() == {"caption": "a face", "seed": 7}
    assert members(list(read_shard_of(Storage(str(shard.parents[1])), 0))) == SAMPLES
    memory = fsspec.filesystem("memory")
    memory.pipe("/reader/x.tar", shard.read_bytes())
    assert members(list(read_shard("memory://reader/x.tar"))) == SAMPLES


def test_the_shards_of_the_embedded_world_are_read():
    folder = Path(tinytown.__file__).parent / "splits/labelled"
    (first, *_) = read_shard(str(min(folder.glob("*.tar"))))
    assert first.member("image.webp").startswith(b"RIFF") and first.json()["caption"]


def test_a_sample_names_shard_key_and_member(shard: Path):
    a, b, c = read_shard(str(shard))
    with pytest.raises(OutputError) as caught:
        a.member("mask.png")
    assert str(caught.value) == f"{shard}, a: mask.png is missing; it has image.png, json"
    with pytest.raises(OutputError) as caught:
        b.json()
    assert str(caught.value) == f"{shard}, b: json holds a list, not an object"
    with pytest.raises(OutputError, match=f"{shard}, c: json is not JSON: "):
        c.json()
    deep = ShardSample("x.tar", "k", {"json": b"[" * 100_000})
    with pytest.raises(OutputError, match=r"x\.tar, k: json is not JSON"):
        deep.json()
    large = ShardSample("x.tar", "k", {"json": b" " * (1 << 20) + b"{}"})
    with pytest.raises(OutputError, match=r"x\.tar, k: json has 1,048,578 bytes; at most 1,048,576 are read"):
        large.json()


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (write_tar(SAMPLES)[:1500], "it ends inside the member"),
        (b"x" * 10240, "is not the header of a file"),
        (write_tar({"a": {"x": b"", "y": b""}, "b": {"x": b""}})[:2048].replace(b"a.y", b"a.x"), ""),
    ],
)
def test_what_is_no_shard(tmp_path: Path, data: bytes, what: str):
    path = tmp_path / "x.tar"
    path.write_bytes(data)
    with pytest.raises(OutputError, match=f"{path} is not a tar as it is written: .*{what}"):
        list(read_shard(str(path)))


def test_a_sample_in_two_pieces_is_named(tmp_path: Path):
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for name in ("a.x", "b.x", "a.y"):
            tar.addfile(tarfile.TarInfo(name), io.BytesIO())
    reading = read_shard(str(path))
    assert [next(reading).key, next(reading).key] == ["a", "b"]
    with pytest.raises(OutputError, match="sample 'a': its files do not lie side by side"):
        next(reading)


def test_a_sample_that_is_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "x.tar"
    path.write_bytes(write_tar({"a": {str(number): b"" for number in range(1001)}}))
    with pytest.raises(OutputError, match="sample 'a': more than 1,000 files"):
        list(read_shard(str(path)))
    monkeypatch.setattr("factory.output.shards.tar.LARGEST_SAMPLE", 2006)
    path.write_bytes(write_tar(SAMPLES))
    reading = read_shard(str(path))
    assert next(reading).key == "a"
    with pytest.raises(OutputError, match="sample 'b': more than 1,000 files or 2,006 bytes"):
        next(reading)


def test_a_shard_is_read_no_further_than_it_is_asked_for(shard: Path):
    """What lies behind the first sample is damaged, which nobody sees."""
    data = shard.read_bytes()
    shard.write_bytes(data[:3072] + b"x" * 512)
    reading = read_shard(str(shard))
    assert next(reading).key == "a"
    with pytest.raises(OutputError):
        next(reading)


def test_places_that_cannot_be_read(tmp_path: Path):
    with pytest.raises(OutputError, match=r"none\.tar: no such shard"):
        list(read_shard(str(tmp_path / "none.tar")))
    with pytest.raises(OutputError, match="cannot be read"):
        list(read_shard(str(tmp_path)))
    with pytest.raises(SourceError):
        list(read_shard("nosuch://x/y.tar"))
