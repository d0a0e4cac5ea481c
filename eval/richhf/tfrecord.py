"""TFRecord files: records one after the other, each with a checksum of its length and one of its data.

A record is a little-endian uint64 length, the masked CRC-32C of these 8 bytes, the data, and the masked CRC-32C of the
data (https://www.tensorflow.org/tutorials/load_data/tfrecord#tfrecords_format_details). The checksum is tensorboardX's,
which takes the package `crc32c` where it is installed.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

from actors.errors import SourceError
from eval.richhf.git_lfs import refuse_pointer
from factory.store import remote

LARGEST_RECORD = 16 << 20
"""Bytes of a record that are read at most. Records of RichHF-18k have less than 1 MiB."""

_HEADER = struct.Struct("<QI")
_CHECKSUM = struct.Struct("<I")
_MASK_DELTA = 0xA282EAD8
_GZIP = b"\x1f\x8b"
_AGAIN = "download the file again"


@dataclass(frozen=True)
class Place:
    """Where a record is in its file.

    Attributes:
        number: of the record, from 0 on.
        offset: of its length, in bytes.
        size: bytes of its data.
    """

    number: int
    offset: int
    size: int

    @property
    def end(self) -> int:
        """Offset of the next record."""
        return self.offset + _HEADER.size + self.size + _CHECKSUM.size


def records(stream: IO[bytes], where: str) -> Iterator[tuple[Place, bytes]]:
    """Streams the records of a file with their places; all checksums are compared.

    Args:
        stream: the file, at its beginning.
        where: its URL, for messages.

    Raises:
        SourceError: the file is a Git LFS pointer, is compressed or damaged, ends inside a record, or has a record of
            more than `LARGEST_RECORD` bytes.
    """
    number = offset = 0
    while header := stream.read(_HEADER.size):
        if number == 0:
            _check_kind(header, where)
        place = _place(header, number, offset, where)
        data = stream.read(place.size)
        yield place, _checked(data, stream.read(_CHECKSUM.size), place, where)
        number, offset = number + 1, place.end


def read_record(url: str, place: Place) -> bytes:
    """The data of one record, whose place `records` gave.

    Raises:
        SourceError: the file has another record there now, or a damaged one.
        OSError: the store failed.
    """
    files, path = remote.open_store(url)
    frame = remote.read_bytes(files, path, place.offset, place.end)
    if _place(frame[: _HEADER.size], place.number, place.offset, url) != place:
        raise remote.changed(url)
    return _checked(frame[_HEADER.size : -_CHECKSUM.size], frame[-_CHECKSUM.size :], place, url)


def masked_checksum(data: bytes) -> int:
    """The CRC-32C of `data`, rotated right by 15 bits, plus a constant: the form in which it is stored."""
    from tensorboardX.crc32c import crc32c  # its package takes a second to import

    crc = int(crc32c(data))
    return ((crc >> 15 | crc << 17) + _MASK_DELTA) & 0xFFFFFFFF


def _check_kind(beginning: bytes, where: str) -> None:
    """Recognises what is often found in place of the records."""
    refuse_pointer(beginning, where)
    if beginning.startswith(_GZIP):
        raise SourceError(f"{where} is compressed with gzip: decompress it first")


def _place(header: bytes, number: int, offset: int, where: str) -> Place:
    """The place of the record that begins with `header`; its length is trusted only after all checks."""
    record = f"{where}: record {number:,} at byte {offset:,}"
    if len(header) < _HEADER.size:
        raise SourceError(
            f"{record} is cut off: {len(header)} of the {_HEADER.size} bytes of its header are there; {_AGAIN}"
        )
    size, checksum = _HEADER.unpack(header)
    if masked_checksum(header[: -_CHECKSUM.size]) != checksum:
        raise SourceError(
            f"{record}: the checksum of its length is wrong, so the file is damaged, or no TFRecord file; {_AGAIN}"
        )
    if size > LARGEST_RECORD:
        raise SourceError(
            f"{record} has {size:,} bytes; at most {LARGEST_RECORD:,} are read. It is not a file of RichHF-18k: name "
            "another one"
        )
    return Place(number, offset, size)


def _checked(data: bytes, checksum: bytes, place: Place, where: str) -> bytes:
    """The data of a record, after its checksum was compared."""
    record = f"{where}: record {place.number:,} at byte {place.offset:,}"
    if len(data) < place.size or len(checksum) < _CHECKSUM.size:
        raise SourceError(
            f"{record} is cut off: {len(data) + len(checksum):,} of its {place.size + _CHECKSUM.size:,} bytes of data "
            f"and checksum are there; {_AGAIN}"
        )
    if masked_checksum(data) != _CHECKSUM.unpack(checksum)[0]:
        raise SourceError(f"{record}: the checksum of its data is wrong, so the file is damaged; {_AGAIN}")
    return data
