"""The tar of a shard: written in one form only, read as a stream in that form only, and hashed on the way."""

from __future__ import annotations

import hashlib
import io
import re
import tarfile
from collections.abc import Iterator, Mapping
from typing import IO, Protocol

from factory.output.shards.tar_samples import adjacent

LARGEST_MEMBER = 64 << 20
"""Bytes. The largest that is written is an image of 4096 x 4096 pixels, 48 MiB where PNG saves nothing."""

MOST_MEMBERS = 1000
LARGEST_SAMPLE = 512 << 20
"""Bytes of all files of a sample, which are in memory together. The factory writes 200 MiB at most."""

_BLOCK = tarfile.BLOCKSIZE
_EMPTY = tarfile.TarInfo("").tobuf(tarfile.USTAR_FORMAT)
_NAME = re.compile(rb"[\x21-\x7e]+")
_AT_ONCE = 1 << 16
_KINDS = {
    tarfile.LNKTYPE: "a hard link",
    tarfile.SYMTYPE: "a symbolic link",
    tarfile.CHRTYPE: "a device",
    tarfile.BLKTYPE: "a device",
    tarfile.DIRTYPE: "a folder",
    tarfile.FIFOTYPE: "a named pipe",
    tarfile.XHDTYPE: "an extended header",
    tarfile.XGLTYPE: "an extended header",
    tarfile.GNUTYPE_LONGNAME: "an extended header",
    tarfile.GNUTYPE_LONGLINK: "an extended header",
    tarfile.GNUTYPE_SPARSE: "a sparse file",
}


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
        while self.read(_AT_ONCE):
            pass

    @property
    def sha256(self) -> str:
        return self._total.hexdigest()


def write_tar(samples: Mapping[str, Mapping[str, bytes]]) -> bytes:
    """A WebDataset tar of samples by key, each a mapping of content by extension, in their order.

    Headers are normalised: no times, owners or modes of this machine.
    """
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for key, files in samples.items():
            for extension, data in files.items():
                header = tarfile.TarInfo(f"{key}.{extension}")
                header.size = len(data)
                tar.addfile(header, io.BytesIO(data))
    return buffer.getvalue()


def samples(stream: Readable) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Streams key and content by extension; see `factory.output.shards.tar_samples`.

    The tar must be byte for byte of the form that `write_tar` gives: other readers may see other samples in anything
    else.

    Raises:
        ScatteredSampleError: a sample is not in one piece, or has a file twice.
        tarfile.TarError: it is not a tar, ends early, or is not of that form: links and other kinds of members, other
            headers, a file above `LARGEST_MEMBER`, a sample of more than `MOST_MEMBERS` or `LARGEST_SAMPLE`, bytes in
            the padding or behind the end.
    """
    yield from adjacent(_named(stream))


def _named(stream: Readable) -> Iterator[tuple[str, str, bytes]]:
    """Key, extension and content of every file."""
    before, count, size = None, 0, 0
    for name, data in _members(stream):
        # Keys have no dots and names no slashes; in a forged tar, what follows a key stays with it and is reported.
        key, _, extension = name.partition(".")
        if key != before:
            before, count, size = key, 0, 0
        count, size = count + 1, size + len(data)
        if count > MOST_MEMBERS or size > LARGEST_SAMPLE:
            raise tarfile.ReadError(
                f"sample {key!r}: more than {MOST_MEMBERS:,} files or {LARGEST_SAMPLE:,} bytes"
            )
        yield key, extension, data


def _members(stream: Readable) -> Iterator[tuple[str, bytes]]:
    """Name and content of every file, up to the end of the stream."""
    place = 0
    while (block := _exactly(stream, _BLOCK, place)).strip(b"\0"):
        name, size = _name_and_size(block, place)
        data = _exactly(stream, size, place)
        if _exactly(stream, -size % _BLOCK, place).strip(b"\0"):
            raise tarfile.ReadError(f"{name}: the padding behind it is not empty")
        place += _BLOCK + size + -size % _BLOCK
        yield name, data
    end = place + _BLOCK
    while data := stream.read(_AT_ONCE):
        if data.strip(b"\0"):
            raise tarfile.ReadError(f"there is more behind its end, which is at byte {place}")
        end += len(data)
    wanted = -(-(place + 2 * _BLOCK) // tarfile.RECORDSIZE) * tarfile.RECORDSIZE
    if end != wanted:
        raise tarfile.ReadError(f"its end is {end - place} zero bytes, and {wanted - place} are written")


def _name_and_size(block: bytes, place: int) -> tuple[str, int]:
    """Of the member with this header."""
    return _of_normal(block) or _of_any(block, place)


def _of_normal(block: bytes) -> tuple[str, int] | None:
    """Name and size where the header is as it is written and the name fits into its first field; else None.

    `tarfile` would take longer for the headers of small images than Pillow for the images.
    """
    name, size = block[:100].rstrip(b"\0"), block[124:135]
    if block[100:124] != _EMPTY[100:124] or block[136:148] != _EMPTY[136:148] or block[156:] != _EMPTY[156:]:
        return None
    total = b"%06o\0 " % (sum(block) - sum(block[148:156]) + 8 * ord(" "))
    if block[148:156] != total or not size.isdigit() or block[135] or not name or not _NAME.fullmatch(name):
        return None
    length = int(size, 8) if not size.strip(b"01234567") else LARGEST_MEMBER + 1
    return (name.decode(), length) if length <= LARGEST_MEMBER else None


def _of_any(block: bytes, place: int) -> tuple[str, int]:
    """As `_name_and_size`, for long names, and for headers that are not as they are written."""
    try:
        header = tarfile.TarInfo.frombuf(block, "utf-8", "strict")
        if not header.isreg() or header.type != tarfile.REGTYPE:
            kind = _KINDS.get(header.type, f"of type {header.type!r}")
            raise tarfile.ReadError(f"{header.name} is {kind}; a shard holds regular files only")
        normal = tarfile.TarInfo(header.name)
        normal.size = header.size
        same = normal.tobuf(tarfile.USTAR_FORMAT, "utf-8", "strict") == block
    except (tarfile.HeaderError, ValueError) as error:
        raise tarfile.ReadError(f"at byte {place} is not the header of a file: {error}") from None
    if not same:
        raise tarfile.ReadError(
            f"{header.name}: its header is not as it is written (mode, owner, time or a reserved field differs)"
        )
    if header.size > LARGEST_MEMBER:
        raise tarfile.ReadError(
            f"{header.name}: {header.size:,} bytes; at most {LARGEST_MEMBER:,} are written"
        )
    return header.name, header.size


def _exactly(stream: Readable, size: int, place: int) -> bytes:
    data = stream.read(size) if size else b""
    while len(data) < size:
        more = stream.read(size - len(data))
        if not more:
            raise tarfile.ReadError(f"it ends inside the member at byte {place}, or without an end mark")
        data += more
    return data
