"""Shards of rows that are no corrupted samples: their files, their order, and what an earlier run has left."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from actors.errors import OutputError
from factory.output.shards.publish import ShardFormat, publish_shard
from factory.output.shards.reader import read_shard
from factory.output.shards.records import FileRecord
from factory.store.storage import Storage


@dataclass(frozen=True)
class Annotated:
    """The sidecar of a shard of annotations."""

    shard: int
    rules: str
    tar: FileRecord | None
    index: FileRecord

    @property
    def encoded(self) -> bytes:
        files = {"tar": self.tar and self.tar.model_dump(), "index": self.index.model_dump()}
        return json.dumps({"shard": self.shard, "rules": self.rules, **files}).encode()


def read_mark(storage: Storage, number: int) -> Annotated:
    try:
        found = json.loads(storage.read(f"stats/{number:06d}.json"))
    except ValueError as error:
        raise OutputError("damaged") from error
    tar = FileRecord(**found["tar"]) if found["tar"] else None
    return Annotated(found["shard"], found["rules"], tar, FileRecord(**found["index"]))


SCHEMA = pa.schema(
    [("key", pa.string()), ("label", pa.string()), ("json_bytes", pa.int64()), ("json_sha256", pa.string())]
)
FORMAT = ShardFormat(
    SCHEMA, read_mark, lambda one, other: one.rules == other.rules, lambda storage, mark: False
)
ROWS = [{"key": "a", "label": "hand"}, {"key": "b", "label": None}]
FILES = {"a": {"json": b'{"label": "hand"}', "mask.png": b"not looked at"}}
TAR, INDEX, STATS = "shards/000003.tar", "index/000003.parquet", "stats/000003.json"


class Ordered(Storage):
    """Notes the order in which files are published."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.published: list[str] = []

    def publish(self, path, data, **keywords):
        self.published.append(path)
        return super().publish(path, data, **keywords)


@pytest.fixture
def storage(tmp_path: Path) -> Ordered:
    return Ordered(str(tmp_path / "out"))


def publish(storage: Storage, rules: str = "one", files=FILES) -> Annotated:
    return publish_shard(
        storage, ROWS, files, shard_format=FORMAT, mark=lambda tar, index: Annotated(3, rules, tar, index)
    )


def test_files_hashes_and_order(storage: Ordered):
    made = publish(storage)
    assert storage.published == [TAR, INDEX, STATS]
    assert storage.read(STATS) == made.encoded
    for path, record in ((TAR, made.tar), (INDEX, made.index)):
        data = storage.read(path)
        assert record == FileRecord(bytes=len(data), sha256=hashlib.sha256(data).hexdigest())
    with tarfile.open(fileobj=io.BytesIO(storage.read(TAR))) as tar:
        found = {member.name: tar.extractfile(member).read() for member in tar}
    assert found == {"a.json": FILES["a"]["json"], "a.mask.png": FILES["a"]["mask.png"]}
    sha256 = hashlib.sha256(FILES["a"]["json"]).hexdigest()
    assert pq.read_table(io.BytesIO(storage.read(INDEX))).to_pylist() == [
        {"key": "a", "label": "hand", "json_bytes": 17, "json_sha256": sha256},
        {"key": "b", "label": None, "json_bytes": None, "json_sha256": None},
    ]
    (read,) = read_shard(f"{storage.url}/{TAR}")
    assert (read.key, read.json(), read.member("mask.png")) == ("a", {"label": "hand"}, b"not looked at")


def test_without_files_there_is_no_tar(storage: Ordered):
    assert publish(storage, files={}).tar is None
    assert storage.published == [INDEX, STATS] and not storage.exists(TAR)


def test_a_committed_shard_stays_as_it_is(storage: Ordered):
    first = publish(storage)
    publish(storage, files={"a": {"json": b"{}"}})
    assert storage.read(STATS) == first.encoded and read_mark(storage, 3) == first


@pytest.mark.parametrize("damage", [lambda data: data[:-1], lambda data: b""])
def test_what_an_earlier_run_has_left_is_replaced(storage: Ordered, damage):
    first = publish(storage)
    storage.replace(TAR, damage(storage.read(TAR)))
    assert publish(storage) == first
    assert hashlib.sha256(storage.read(TAR)).hexdigest() == first.tar.sha256


def test_the_shard_of_other_work_is_replaced_whole(storage: Ordered):
    publish(storage)
    made = publish(storage, "two", {})
    assert not storage.exists(TAR) and read_mark(storage, 3) == made
