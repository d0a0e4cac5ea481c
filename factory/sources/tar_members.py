"""The members of a tar: names and places only, read from the headers. Nothing is ever unpacked."""

from __future__ import annotations

import os
import re
import struct
import tarfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

from actors.errors import SourceError

_BLOCK = 512
_LONGEST_NAME = 4096
_LARGEST_EXTENSION = 1 << 20
_MOST_DIGITS = 255
_MOST_GLOBAL = 1000
"""Names in pax headers that hold for all that follows; `tarfile` copies them for every member."""
_PAX = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE)
_LONG = (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)
_RECORD = re.compile(rb"(\d{1,9}) [^=]+=")
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


class _Entry(tarfile.TarInfo):
    """Looks at headers that extend another one before `tarfile` does.

    It reads as many bytes as such a header promises, and searches them in a time that grows with the square of their
    digits (CVE-2024-6232).
    """

    def _proc_member(self, tar: tarfile.TarFile) -> tarfile.TarInfo:
        """Documented in `tarfile` as the place to override."""
        if len(tar.pax_headers) > _MOST_GLOBAL:
            raise tarfile.ReadError(f"its global headers have {len(tar.pax_headers):,} names")
        if self.type in (*_PAX, *_LONG):
            if not 0 <= self.size <= _LARGEST_EXTENSION:
                raise tarfile.ReadError(f"a header promises to go on for {self.size:,} bytes")
            if self.type in _PAX:
                assert tar.fileobj is not None
                place = tar.fileobj.tell()
                _check_records(tar.fileobj.read(self.size))
                tar.fileobj.seek(place)
        entry: tarfile.TarInfo = super()._proc_member(tar)  # type: ignore[misc]
        return entry


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
    end = stream.seek(0, os.SEEK_END)
    stream.seek(0)
    place = 0
    try:
        with tarfile.open(fileobj=stream, mode="r:", tarinfo=_Entry) as tar:
            while (entry := tar.next()) is not None:
                if entry.size < 0 or not place + _BLOCK <= entry.offset_data <= tar.offset:
                    raise tarfile.ReadError("a header points backwards")
                if tar.offset > end:
                    raise tarfile.ReadError(f"it promises {tar.offset - end:,} bytes more than there are")
                # Links, folders and sparse files have sizes that are not those of their data here.
                place = tar.offset
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


def _check_records(data: bytes) -> None:
    """Whether a pax header is a list of `LENGTH NAME=VALUE` and line ends, as POSIX has it."""
    if any(len(digits) > _MOST_DIGITS for digits in re.findall(rb"\d+", data)):
        raise tarfile.ReadError("a pax header has a number of very many digits")
    place, end = 0, len(data.rstrip(b"\0"))
    while place < end:
        record = _RECORD.match(data, place, end)
        following = place + int(record[1]) if record else 0
        if not record or not record.end() < following <= end or data[following - 1] != ord("\n"):
            raise tarfile.ReadError(f"a pax header is not as it should be from its byte {place:,} on")
        place = following


def _check_end(stream: IO[bytes], offset: int) -> None:
    """`tarfile` takes a damaged header, a block of zeros and the end of the file for the tar's end.

    Only zeros are that, and only where no header follows: tars that were put one after another, or that have a hole,
    would lose items. Other rests are allowed, since POSIX does not define what fills the last record.
    """
    stream.seek(offset)
    block = stream.read(_BLOCK)
    if not block:
        raise tarfile.ReadError("the file ends without a tar's end mark; it was cut short")
    if len(block) < _BLOCK or any(block):
        raise tarfile.ReadError(f"no header at byte {offset:,}")
    while block := stream.read(_BLOCK):
        offset += _BLOCK
        if len(block) == _BLOCK and _is_header(block):
            raise tarfile.ReadError(
                f"it goes on at byte {offset:,}, after what looks like its end; is there a hole in it, or are "
                "these several tars in one file"
            )


def _is_header(block: bytes) -> bool:
    if not block.strip(b"\0"):
        return False
    try:
        tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return False
    return True
