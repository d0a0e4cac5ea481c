"""Publishes a shard of rows of any kind: tar, Parquet index, and last the sidecar that commits it.

Every file is written create-only, and its size and hash are in the index or the sidecar. Equal rows and files give
equal bytes.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Generic, Protocol, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from actors.errors import OutputError
from factory.output.shards.records import FileRecord, columns_of, index_path, record_of, stats_path, tar_path
from factory.output.shards.tar import write_tar
from factory.store.storage import Storage


class CommitMark(Protocol):
    """What publishing needs to know of a sidecar.

    Attributes:
        shard: its number.
        tar: None where the shard has no files; readers choke on empty tars.
        index: the Parquet index.
        encoded: the bytes of the sidecar itself.
    """

    @property
    def shard(self) -> int: ...
    @property
    def tar(self) -> FileRecord | None: ...
    @property
    def index(self) -> FileRecord: ...
    @property
    def encoded(self) -> bytes: ...


Mark = TypeVar("Mark", bound=CommitMark)


@dataclass(frozen=True)
class ShardFormat(Generic[Mark]):
    """A kind of shards.

    Attributes:
        schema: of the index. Besides the columns of the rows it has those of `columns_of` for every member.
        read_mark: reads the sidecar of a shard; raises OutputError where it is missing or damaged.
        same_work: whether two sidecars are of the same shard of the same plan, made by the same recipe.
        still_wanted: whether the output is still that of the sidecar's recipe and plan; see `Storage.publish`.
    """

    schema: pa.Schema
    read_mark: Callable[[Storage, int], Mark]
    same_work: Callable[[Mark, Mark], bool]
    still_wanted: Callable[[Storage, Mark], bool]


def publish_shard(
    storage: Storage,
    rows: Iterable[Mapping[str, object]],
    files: Mapping[str, Mapping[str, bytes]],
    *,
    shard_format: ShardFormat[Mark],
    mark: Callable[[FileRecord | None, FileRecord], Mark],
) -> Mark:
    """Publish `shards/N.tar` (unless there are no files), `index/N.parquet` and `stats/N.json`, the sidecar.

    Args:
        storage: the output.
        rows: of the index, with a column `key`.
        files: content by extension, by key, in the order of the tar. Keys without files are rows of the index only.
        shard_format: of the index and the sidecar.
        mark: the sidecar, given size and hash of the tar (None without files) and of the index.

    Returns:
        The sidecar.

    Raises:
        OutputError: the output cannot be written.
        LockLostError: another run has taken the output over.
    """
    tar = write_tar(files) if files else None
    index = _index_bytes(rows, files, shard_format.schema)
    made = mark(None if tar is None else record_of(tar), record_of(index))
    commit_files(storage, made, tar, index, shard_format)
    return made


def commit_files(
    storage: Storage, mark: Mark, tar: bytes | None, index: bytes, shard_format: ShardFormat[Mark]
) -> None:
    """Publish the files of a shard, its sidecar last.

    A shard that is committed already, for the same plan by the same recipe, is left as it is. Anything else under these
    names was left by a run that is gone, or that lost the lock, and is removed.

    If this run loses the lock halfway, a file that exists already stays if the output is still that of the
    same recipe and plan: the run that has taken over counts on it.
    """
    number = mark.shard
    stays = partial(shard_format.still_wanted, storage, mark)
    files: dict[str, bytes | None] = {
        tar_path(number): tar,
        index_path(number): index,
        stats_path(number): mark.encoded,
    }
    leftovers = False
    for path, data in files.items():
        if data is not None and storage.publish(path, data, stays=stays):
            continue
        if data is None and not storage.exists(path):
            continue
        if not leftovers:
            if _committed(storage, mark, shard_format):
                return
            storage.remove(stats_path(number))
            leftovers = True
        if data is None:
            storage.remove(path)
        else:
            storage.settle(path, data)


def _committed(storage: Storage, mark: Mark, shard_format: ShardFormat[Mark]) -> bool:
    """Whether the same work has been committed, and its files match its sidecar."""
    number = mark.shard
    try:
        committed = shard_format.read_mark(storage, number)
        if not shard_format.same_work(committed, mark):
            return False
        files = [(index_path(number), committed.index)]
        if committed.tar is not None:
            files.append((tar_path(number), committed.tar))
        elif storage.exists(tar_path(number)):
            return False
        return all(record_of(storage.read(path)) == record for path, record in files)
    except OutputError:
        return False


def _index_bytes(
    rows: Iterable[Mapping[str, object]], files: Mapping[str, Mapping[str, bytes]], schema: pa.Schema
) -> bytes:
    """The Parquet index of a shard, with size and hash of every file."""
    table = []
    for row in rows:
        entry = dict(row)
        for member, data in files.get(str(row["key"]), {}).items():
            record = record_of(data)
            entry.update(zip(columns_of(member), (record.bytes, record.sha256), strict=True))
        table.append(entry)
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(table, schema=schema), buffer, compression="zstd")
    return buffer.getvalue()
