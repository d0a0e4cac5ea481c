"""Reads what a training wrote for TensorBoard."""

from __future__ import annotations

from collections.abc import Iterator

from tensorboardX.proto.event_pb2 import Event
from tensorboardX.record_writer import masked_crc32c


def events(data: bytes) -> Iterator[Event]:
    """The records of a file of TensorBoard: length, its checksum, bytes, their checksum."""
    while data:
        size = int.from_bytes(data[:8], "little")
        record = data[12 : 12 + size]
        assert int.from_bytes(data[12 + size : 16 + size], "little") == masked_crc32c(record)
        yield Event.FromString(record)
        data = data[16 + size :]
