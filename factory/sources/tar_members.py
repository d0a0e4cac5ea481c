"""The members of a tar: names and places only, read from the headers. Nothing is ever unpacked."""

from __future__ import annotations

import struct
import tarfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

from actors.errors import SourceError

_BLOCK = 512
_LONGEST_NAME = 4096
_COMPRESSED = {
    b"\x1f\x8b": ("gzip", "gunzip"),
    b"BZh": ("bzip2", "bunzip2"),
    b"\xfd7zXZ": ("xz", "unxz"),
    b"\x28\xb5\x2f\xfd": ("zstd", "unzstd"),
    b"PK\x03\x04": ("zip", "unzip"),
}
_DAMAGE = (tarfile.TarError, ValueError, LookupError, ArithmeticError, RecursionError, EOFError, struct.error)
_GET_ANOTHER = "fetch or pack the tar again, or leave it out of source.urls"


@dataclass(frozen=True)
class Member:
    """A regular file in a tar: `size` bytes from `offset` on."""

    name: str
    offset: int
    size: int


def members(stream: IO[bytes], url: str, skipped: Counter[str]) -> Iterator[Member]:
    """Streams the regular files of a tar in their order.

    Seeks from header to header, which on a disk costs nothing and in a bucket leaves out what is large. Names
    come from outside: links, devices, absolute paths and paths with `..` are passed over.

    Args:
        stream: of the whole tar, at its beginning; it must be able to seek.
        url: the tar's, for messages.
        skipped: counts what is passed over, by reason.

    Raises:
        SourceError: the tar is compressed, damaged or cut short. It is never read as far as it goes: its last
            items would go missing without a word.
    """
    start = stream.read(8)
    for mark, (kind, tool) in _COMPRESSED.items():
        if start.startswith(mark):
            raise SourceError(
                f"{url} is compressed ({kind}): items cannot be read from its middle; {tool} it first"
            )
    stream.seek(0)
    place = 0
    try:
        with tarfile.open(fileobj=stream, mode="r:") as tar:
            while (entry := tar.next()) is not None:
                if entry.offset_data < place + _BLOCK or entry.size < 0:
                    raise tarfile.ReadError("a header points backwards")
                place = entry.offset_data + entry.size
                tar.members.clear()  # type: ignore[attr-defined, unused-ignore]  # or it keeps all headers
                reason = _passes_over(entry)
                if reason == "":
                    yield Member(entry.name, entry.offset_data, entry.size)
                elif reason != "folder":
                    skipped[reason] += 1
            _check_end(stream, tar.offset)
    except _DAMAGE as error:
        raise SourceError(f"{url} is damaged after byte {place:,}: {error}; {_GET_ANOTHER}") from error


def _passes_over(entry: tarfile.TarInfo) -> str:
    """The reason to pass over an entry; empty for a regular file with a harmless name."""
    if entry.isdir():
        return "folder"
    if entry.islnk() or entry.issym():
        return "link"
    if not entry.isreg():
        return "not_a_file"
    if entry.sparse is not None:  # type: ignore[attr-defined, unused-ignore]
        return "sparse_file"
    if len(entry.name) > _LONGEST_NAME or entry.name.startswith("/") or ".." in entry.name.split("/"):
        return "unsafe_name"
    return ""


def _check_end(stream: IO[bytes], offset: int) -> None:
    """`tarfile` takes a damaged header and the end of the file for the tar's end; only zeros are that."""
    stream.seek(offset)
    block = stream.read(_BLOCK)
    if not block:
        raise tarfile.ReadError("the file ends without a tar's end mark; it was cut short")
    if len(block) < _BLOCK or any(block):
        raise tarfile.ReadError(f"no header at byte {offset:,}")
