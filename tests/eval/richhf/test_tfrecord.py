"""TFRecord files: framing, both checksums, and files that are not right, each with a message that says where."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import pytest

from actors.errors import SourceError
from benchmarks.richhf.simulated import POINTER, crc32c, frame, masked, write_records
from eval.richhf.tfrecord import LARGEST_RECORD, Place, masked_checksum, read_record, records

DATA = [b"", b"a", bytes(range(256)) * 5]


def read(data: bytes) -> list[bytes]:
    return [record for _, record in records(io.BytesIO(data), "x.tfrecord")]


def test_checksums_of_the_rfc():
    # RFC 3720, appendix B.4, and the check value of CRC-32C.
    assert crc32c(bytes(32)) == 0x8A9136AA
    assert crc32c(b"\xff" * 32) == 0x62A8AB43
    assert crc32c(b"123456789") == 0xE3069283
    for data in (*DATA, b"123456789", bytes(32)):
        assert masked_checksum(data) == masked(data)


def test_a_file_that_tensorboard_has_written(tmp_path: Path):
    from tensorboardX.record_writer import RecordWriter

    writer = RecordWriter(str(tmp_path / "x.tfrecord"))
    for data in DATA:
        writer.write(data)
    writer.close()
    assert read((tmp_path / "x.tfrecord").read_bytes()) == DATA


def test_records_and_their_places(tmp_path: Path):
    path = write_records(tmp_path / "x.tfrecord", DATA)
    with path.open("rb") as stream:
        found = list(records(stream, str(path)))
    assert [data for _, data in found] == DATA
    # 12 bytes of header and 4 of the second checksum around the data.
    assert [place for place, _ in found] == [Place(0, 0, 0), Place(1, 16, 1), Place(2, 33, 1280)]
    for place, data in found:
        assert read_record(str(path), place) == data


def test_an_empty_file_has_no_records():
    assert read(b"") == []


@pytest.mark.parametrize("cut", [*range(1, 22), *range(23, 43)])
def test_every_truncation_is_found(cut: int):
    whole = frame(b"first") + frame(b"second")  # 21 and 22 bytes
    with pytest.raises(SourceError, match=r"record [01] at byte (0|21) is cut off") as why:
        read(whole[:-cut])
    assert "x.tfrecord" in str(why.value) and "download the file again" in str(why.value)
    assert ("record 1 at byte 21" in str(why.value)) == (cut < 22)


@pytest.mark.parametrize("byte", range(22))
def test_every_flipped_byte_is_found(byte: int):
    damaged = bytearray(frame(b"first") + frame(b"second"))
    damaged[21 + byte] ^= 16
    part = "length" if byte < 12 else "data"
    with pytest.raises(SourceError, match=f"record 1 at byte 21: the checksum of its {part} is wrong"):
        read(bytes(damaged))


def test_a_length_is_not_trusted():
    length = struct.pack("<Q", LARGEST_RECORD + 1)
    with pytest.raises(SourceError, match=r"record 0 at byte 0 has 16,777,217 bytes; at most 16,777,216 are"):
        read(length + struct.pack("<I", masked(length)))
    length = struct.pack("<Q", 1 << 62)
    with pytest.raises(SourceError, match="at most"):
        read(frame(b"a") + length + struct.pack("<I", masked(length)))


def test_other_files_in_place_of_the_records():
    with pytest.raises(SourceError, match=r"x\.tfrecord is a Git LFS pointer.*git lfs pull"):
        read(POINTER)
    with pytest.raises(SourceError, match="compressed with gzip: decompress it"):
        read(b"\x1f\x8b\x08" + bytes(40))
    with pytest.raises(SourceError, match="or no TFRecord file"):
        read(b"PAR1" + bytes(40))


def test_a_file_that_changed_since_a_place_was_found(tmp_path: Path):
    path = write_records(tmp_path / "x.tfrecord", [b"first", b"second"])
    place = Place(1, 21, 6)
    assert read_record(str(path), place) == b"second"
    write_records(path, [b"first", b"secon!", b"x"])
    assert read_record(str(path), place) == b"secon!"  # the caller compares the file's state
    write_records(path, [b"first", b"other", b"third"])
    with pytest.raises(SourceError, match="changed since it was planned"):
        read_record(str(path), place)
