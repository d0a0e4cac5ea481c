"""Reading a shard's tar as a stream of samples, and hashing it on the way."""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Container, Iterator
from typing import IO, Protocol

from factory.tar_samples import adjacent

BLOCK = 1 << 16
"""Bytes of one read. `tarfile` copies what is left of a block at every member, so larger ones are slower."""


class Readable(Protocol):
    """What a tar can be read from."""

    def read(self, size: int, /) -> bytes: ...


class Hashing:
    """Hands a stream on, and hashes and counts what was read.

    Attributes:
        bytes: read so far.
    """

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._total = hashlib.sha256()
        self.bytes = 0

    def read(self, size: int, /) -> bytes:
        data = self._stream.read(size)
        self._total.update(data)
        self.bytes += len(data)
        return data

    def drain(self) -> None:
        """Reads what is left, so that the hash is that of the whole file."""
        while self.read(BLOCK):
            pass

    @property
    def sha256(self) -> str:
        return self._total.hexdigest()


def samples(stream: Readable, wanted: Container[str] | None = None) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Streams key and content by extension of a shard's samples.

    Args:
        wanted: keys of the samples to read; None reads all.

    Raises:
        tarfile.TarError: it is no tar, ends in the middle, or has a sample that is not in one piece.
    """
    with tarfile.open(fileobj=stream, mode="r|", bufsize=BLOCK) as tar:  # type: ignore[call-overload]
        yield from adjacent(_members(tar, wanted))


def _members(tar: tarfile.TarFile, wanted: Container[str] | None) -> Iterator[tuple[str, str, bytes]]:
    for member in tar:
        key, _, extension = member.name.partition(".")  # the keys of shards have neither dots nor slashes
        taken = member.isreg() and (wanted is None or key in wanted)
        stream = tar.extractfile(member) if taken else None
        if stream is not None:
            yield key, extension, stream.read()
