"""Reads single samples of a data set by seeking: a range of bytes of a tar for each, and nothing else."""

from __future__ import annotations

import contextlib
import os
import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from actors.errors import BadSample, TrainingError
from actors.redaction import redact
from factory.output.shards.records import index_path
from factory.sources.tar_members import Member
from factory.store import remote
from factory.store.credentials import remember
from factory.store.places import is_local
from factory.store.storage import Storage
from train.data.bounded_cache import BoundedCache
from train.data.data_set import DataSet
from train.data.finished_output import below
from train.data.foreign_tars import index_of
from train.data.labels import MAPS, Part
from train.data.shard_index import HEADER, ShardIndex, of_output

INDEX_BYTES = 128 << 20
"""Of the indexes of shards that are kept in memory. Those of all streams should fit: about 100 bytes for a sample."""

OPEN_TARS = 128

_INDEX_BLOCK = 1 << 20
_LARGEST_GAP = 1 << 20
"""Bytes between two members up to which they are read by one request."""

_LONGEST_NAME = 100
"""Bytes of a name that a header itself holds in every dialect of tar."""


_RESTORE = "bring the shard back as it was, or begin a new training with the data as it is now"


@dataclass(frozen=True)
class Encoded:
    """A sample as it is stored.

    Attributes:
        key: unique in its data set.
        where: tar and key, for messages.
        image: the file; empty where the sample has none.
        label: the files of the maps that the label is made of, by name of the part, as far as the sample has them.
    """

    key: str
    where: str
    image: bytes
    label: Mapping[Part, bytes]


class Reader:
    """Reads the samples of a data set. One instance may be shared by threads; no shard is opened before it is needed.

    Args:
        data_set: as it was opened.
        cache: where the index of foreign tars is kept; a tar without one there is looked through again.
        index_bytes: see `INDEX_BYTES`.
        open_tars: tars that are held open.
    """

    def __init__(
        self,
        data_set: DataSet,
        *,
        cache: Storage | None = None,
        index_bytes: int = INDEX_BYTES,
        open_tars: int = OPEN_TARS,
    ) -> None:
        remember([data_set.url])
        self.data_set = data_set
        self._cache = cache
        self._parts: tuple[Part, ...] = ("image", *MAPS[data_set.label])
        self._indexes = BoundedCache(self._index, index_bytes, lambda index: index.nbytes)
        self._tars = BoundedCache(self._open, open_tars)

    def read(self, shard: int, row: int) -> Encoded:
        """Read a sample.

        Args:
            shard: number of the shard in the data set.
            row: number of the sample among those of the shard that are used.

        Raises:
            BadSample: a file of the sample is too large to be decoded.
            TrainingError: the tar is gone, cut short, or not the one that was indexed; or a store failed.
            SourceError: the place may not be read.
        """
        url = self._url(shard)
        row = self.data_set.row_of(shard, row)
        try:
            index = self._indexes.get(shard)
            stem = index.key(row).encode("utf-8", "backslashreplace").decode()
            where = f"{redact(url)}, {stem}"
            members = index.members(row, self._parts)
            for part, member in members.items():
                if member.size > remote.LARGEST_FILE:
                    raise BadSample(
                        f"{part}_too_large", f"{where}: {part}: {remote.too_large(member.size).detail}"
                    )
            data = _fetch(self._tar(shard, stem), members.values(), where)
        except OSError as error:
            raise TrainingError(f"{redact(url)} cannot be read: {error}") from error
        # In foreign tars, only the names within one tar are unique.
        key = stem if self.data_set.kind == "output" else f"{shard:06d}/{stem}"
        files = {part: data[member.offset] for part, member in members.items()}
        return Encoded(key, where, files.pop("image", b""), files)

    def _url(self, shard: int) -> str:
        url = self.data_set.shards[shard].url
        return below(self.data_set.url, url) if self.data_set.kind == "output" else url

    def _index(self, shard: int) -> ShardIndex:
        known = self.data_set.shards[shard]
        if self.data_set.kind == "output":
            url = below(self.data_set.url, index_path(shard))
            files, path = remote.open_store(url)
            info = remote.info_of(files, path)
            if info is None:
                raise TrainingError(f"{redact(url)} is missing; {_RESTORE}")
            with remote.open_file(files, path, info, _INDEX_BLOCK) as stream:
                return of_output(stream, redact(url), accepted=known.samples, size=known.bytes)
        index = index_of(known.url, known.bytes, self.data_set.names, self._cache)
        if len(index) != known.samples:
            raise TrainingError(
                f"{known.url} has {len(index):,} samples, and had {known.samples:,}; {_RESTORE}"
            )
        return index

    def _tar(self, shard: int, stem: str) -> _Tar:
        try:
            return self._tars.get(shard)
        except TrainingError as error:
            raise TrainingError(f"sample {stem}: {error}") from error

    def _open(self, shard: int) -> _Tar:
        url = self._url(shard)
        files, path = remote.open_store(url)
        info = remote.info_of(files, path)
        if info is None:
            raise TrainingError(f"{redact(url)} is missing; {_RESTORE}")
        size, wanted = remote.size_of(files, path, info), self.data_set.shards[shard].bytes
        if size != wanted:
            what = "cut short" if size < wanted else "replaced"
            raise TrainingError(
                f"{redact(url)} has {size:,} bytes, and should have {wanted:,}: it was {what}; {_RESTORE}"
            )
        return _LocalTar(path) if is_local(files) else _RemoteTar(files, path)


class _Tar(Protocol):
    """A tar that is held open. Threads read from it at the same time."""

    def read(self, start: int, end: int) -> bytes:
        """The bytes from `start` to before `end`; fewer where the tar ends before."""


class _LocalTar:
    """Closed when nothing refers to it any more: another thread may still read from what the cache forgets."""

    def __init__(self, path: str) -> None:
        self._descriptor = os.open(path, os.O_RDONLY)

    def read(self, start: int, end: int) -> bytes:
        data = os.pread(self._descriptor, end - start, start)
        while len(data) < end - start:
            more = os.pread(self._descriptor, end - start - len(data), start + len(data))
            if not more:
                break
            data += more
        return data

    def __del__(self) -> None:
        with contextlib.suppress(AttributeError):  # where it could not be opened
            os.close(self._descriptor)


@dataclass(frozen=True)
class _RemoteTar:
    files: Any
    path: str

    def read(self, start: int, end: int) -> bytes:
        return remote.read_bytes(self.files, self.path, start, end)


def _fetch(tar: _Tar, members: Iterable[Member], where: str) -> dict[int, bytes]:
    """Content by offset; neighbours come by one request, and each with its header, which is compared."""
    found = {}
    for stretch in _stretches(members):
        start, end = stretch[0].offset - HEADER, stretch[-1].offset + stretch[-1].size
        block = tar.read(start, end)
        if len(block) < end - start:
            raise TrainingError(f"{where}: the tar ends at byte {start + len(block):,}; {_RESTORE}")
        for member in stretch:
            at = member.offset - start
            _check_header(block[at - HEADER : at], member, where)
            found[member.offset] = block[at : at + member.size]
    return found


def _stretches(members: Iterable[Member]) -> list[list[Member]]:
    stretches: list[list[Member]] = []
    end = -1
    for member in sorted(members, key=lambda one: one.offset):
        if not stretches or member.offset > end + _LARGEST_GAP:
            stretches.append([])
        stretches[-1].append(member)
        end = member.offset + member.size
    return stretches


def _check_header(block: bytes, member: Member, where: str) -> None:
    """Raise TrainingError where a tar has another file, or none, in the place of a member."""
    try:
        header = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        # Other names are cut or spelled otherwise in the header, and whole in an extended header before it.
        is_plain = member.name.isascii() and len(member.name) <= _LONGEST_NAME
        if header.isreg() and header.size == member.size and (header.name == member.name or not is_plain):
            return
        found = f"{header.name!r} of {header.size:,} bytes"
    except tarfile.HeaderError:
        found = "no header of a file"
    raise TrainingError(
        f"{where}: at byte {member.offset - HEADER:,} of the tar is {found}, and {member.name!r} of {member.size:,} "
        f"bytes was expected: the tar was replaced since it was indexed; {_RESTORE}"
    )
