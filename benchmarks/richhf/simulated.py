"""A simulated RichHF-18k: annotators who click discs, their average as PNG or JPEG, TFRecords, and Pick-a-Pic's pairs.

It shares no code with the reader: records are framed with a checksum computed bit by bit, and messages are encoded by
hand.
"""

from __future__ import annotations

import io
import random
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

SCORES = ("aesthetics_score", "artifact_score", "misalignment_score", "overall_score")
POINTER = (
    b"version https://git-lfs.github.com/spec/v1\n"
    b"oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 123456789\n"
)

_PROMPT = "a red house, with two windows: one is open!"
PROMPT_TOKENS = 9
"""Of the prompt of every pair: a, red, house, with, two, windows, one, is, open."""


@dataclass(frozen=True)
class Drawn:
    """A simulated map.

    Attributes:
        marks: uint8 [H, W], how many annotators marked each pixel.
        annotators: n.
        data: the encoded map.
    """

    marks: NDArray[np.uint8]
    annotators: int
    data: bytes

    @property
    def fits(self) -> tuple[int, ...]:
        """The numbers of annotators that could have made the levels: all k / n are fractions of it."""
        found = np.unique(self.marks).tolist()
        return tuple(m for m in range(1, 7) if all(k * m % self.annotators == 0 for k in found))


def draw_map(
    annotators: int, seed: int, *, side: int = 512, form: Literal["PNG", "JPEG"] = "PNG", quality: int = 95
) -> Drawn:
    """A map of discs of equal radius, as RichHF's interface draws them: most annotators click near the same flaws.

    Args:
        annotators: n, 1 to 6.
        seed: of everything.
        side: of the map in pixels.
        form: of the file.
        quality: of a JPEG.
    """
    rng = np.random.default_rng((seed, annotators))
    radius = int(rng.integers(side // 40, side // 12))
    flaws = rng.integers(radius, side - radius, (rng.integers(0, 4), 2))
    marks = np.zeros((side, side), np.uint8)
    y, x = np.ogrid[:side, :side]
    for _ in range(annotators):
        own = np.zeros((side, side), bool)
        for flaw in flaws:
            if rng.random() < 0.75:
                down, across = flaw + rng.integers(-radius, radius + 1, 2)
                own |= (y - down) ** 2 + (x - across) ** 2 <= radius**2
        marks += own
    levels = np.rint(255 * np.arange(annotators + 1) / annotators).astype(np.uint8)[marks]
    return Drawn(marks, annotators, encode(levels, form, quality))


def encode(levels: NDArray[np.uint8], form: str = "PNG", quality: int = 95) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(levels).save(buffer, form, **({"quality": quality} if form == "JPEG" else {}))
    return buffer.getvalue()


def example(features: Mapping[str, bytes | float | int | None]) -> bytes:
    """An encoded `tf.train.Example`; None is a feature without a value."""
    entries = []
    for name, value in features.items():
        if isinstance(value, bytes):
            feature = _field(1, _field(1, value))
        elif isinstance(value, float):
            feature = _field(2, _field(1, struct.pack("<f", value)))
        elif isinstance(value, int):
            feature = _field(3, _field(1, _varint(value)))
        else:
            feature = b""
        entries.append(_field(1, _field(1, name.encode()) + _field(2, feature)))
    return _field(1, b"".join(entries))


def features(
    uid: str,
    artifacts: bytes,
    misalignment: bytes,
    labels: Sequence[int] = (1,) * PROMPT_TOKENS,
    score: float = 0.5,
) -> dict[str, bytes | float | int | None]:
    """The features of a record of RichHF-18k."""
    return {
        "filename": f"train/images/{uid}.png".encode(),
        **dict.fromkeys(SCORES, score),
        "artifact_map": artifacts,
        "misalignment_map": misalignment,
        "prompt_misalignment_label": " ".join(map(str, labels)).encode(),
    }


def frame(data: bytes) -> bytes:
    """A record of a TFRecord file."""
    length = struct.pack("<Q", len(data))
    return length + struct.pack("<I", masked(length)) + data + struct.pack("<I", masked(data))


def masked(data: bytes) -> int:
    """The masked CRC-32C of bytes."""
    crc = crc32c(data)
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def crc32c(data: bytes) -> int:
    """RFC 3720, appendix B.4: reflected, polynomial 1EDC6F41 (hex)."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _TABLE[(crc ^ byte) & 255] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


def write_records(path: Path, records: Iterable[bytes]) -> Path:
    """A TFRecord file of encoded examples."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as stream:
        for data in records:
            stream.write(frame(data))
    return path


def write_pairs(path: Path, uids: Sequence[str], *, side: int = 64, group: int = 8) -> Path:
    """A Parquet file of Pick-a-Pic v1 with pairs of images with these uids; an odd one has a stranger beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    padded = [*uids, *(["stranger"] if len(uids) % 2 else [])]
    schema = pa.schema(
        [
            ("jpg_0", pa.binary()),
            ("jpg_1", pa.binary()),
            ("image_0_uid", pa.string()),
            ("image_1_uid", pa.string()),
            ("caption", pa.string()),
        ]
    )
    with pq.ParquetWriter(path, schema) as writer:
        for first in range(0, len(padded), 2 * group):
            some = padded[first : first + 2 * group]
            columns = {
                "jpg_0": [photo(uid, side) for uid in some[::2]],
                "jpg_1": [photo(uid, side) for uid in some[1::2]],
                "image_0_uid": some[::2],
                "image_1_uid": some[1::2],
                "caption": [_PROMPT] * len(some[::2]),
            }
            writer.write_table(pa.table(columns, schema=schema))
    return path


def photo(uid: str, side: int) -> bytes:
    """A JPEG whose smooth colours depend on the uid."""
    corners = np.random.default_rng(list(uid.encode())).integers(0, 256, (2, 2, 3), np.uint8)
    image = Image.fromarray(corners).resize((side, side), Image.Resampling.BILINEAR)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def simulate(seed: int, count: int, *, side: int = 512) -> Iterator[tuple[str, Drawn, bytes]]:
    """Uid, map and encoded example of records that are all right; every other map is a JPEG.

    Most have three annotators, as in RichHF-18k.
    """
    chance = random.Random(seed)
    for number in range(count):
        uid = f"{seed:04x}-{number:08x}"
        people = chance.choices(range(1, 7), (1, 2, 12, 2, 1, 2))[0]
        form: Literal["PNG", "JPEG"] = "JPEG" if number % 2 else "PNG"
        drawn = draw_map(people, chance.getrandbits(32), side=side, form=form)
        other = draw_map(people, chance.getrandbits(32), side=side, form=form)
        labels = [int(chance.random() < 0.8) for _ in range(PROMPT_TOKENS)]
        yield uid, drawn, example(features(uid, drawn.data, other.data, labels, chance.random()))


def _table() -> list[int]:
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
        table.append(byte)
    return table


_TABLE = _table()


def _varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def _field(number: int, data: bytes) -> bytes:
    """A length-delimited field of a message."""
    return _varint(number << 3 | 2) + _varint(len(data)) + data
