"""Where the samples of a tar are: computed from the index of our own shards, read from the headers of foreign tars."""

from __future__ import annotations

import hashlib
import json
import tarfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from actors.errors import TrainingError
from factory.output.shards.records import USUAL_MEMBERS, columns_of
from factory.output.shards.tar_samples import grouped, split_name
from factory.sources.tar_members import Member, members
from train.data.labels import PARTS, Part

LARGEST_INDEX = 1 << 30
"""Bytes, when read, of the columns of an output's index that are read here."""

HEADER = tarfile.BLOCKSIZE
"""Bytes of the header before a member's data."""

NOTE = b"flawforge"
"""Key of the metadata of an index that is kept."""

Integers = NDArray[np.int64]

_OWN = {part: f"{part}.png" for part in PARTS}
"""The members of our own shards."""

_ABSENT = -1
_JUDGED = PARTS.index("judged")
_OBJECTS = 2048
"""Bytes of an index without samples: its Python objects."""


@dataclass(frozen=True)
class PartNames:
    """The extensions of a sample's files in foreign tars, in lower case; the case in the tar does not matter.

    Attributes:
        image: the first that a sample has.
        mask, changed, judged: of the maps.
    """

    image: tuple[str, ...] = (
        *("image.png", "image.jpg", "image.jpeg", "image.webp"),
        *("png", "jpg", "jpeg", "webp"),
    )
    mask: str = "mask.png"
    changed: str = "changed.png"
    judged: str = "judged.png"

    def of(self, part: Part) -> tuple[str, ...]:
        """The extensions of a part."""
        found: tuple[str, ...] | str = getattr(self, part)
        return (found,) if isinstance(found, str) else found


USUAL = PartNames()


@dataclass(frozen=True)
class ShardIndex:
    """The samples of a tar.

    Attributes:
        keys: a name up to its first dot, by row, as bytes: names in tars may not be text.
        offsets: int64 [rows, parts], where the data of every one of `PARTS` begin; -1 where the sample has none.
        sizes: int64 [rows, parts], their bytes.
        endings: int64 [rows, parts], their extensions as the tar spells them, as numbers of `spellings`.
        spellings: extensions.
    """

    keys: pa.Array
    offsets: Integers
    sizes: Integers
    endings: Integers
    spellings: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.offsets)

    @property
    def nbytes(self) -> int:
        """Bytes that it takes in memory."""
        arrays = (self.keys, self.offsets, self.sizes, self.endings)
        return _OBJECTS + sum(int(one.nbytes) for one in arrays)

    def key(self, row: int) -> str:
        """The key of a sample, with surrogates where it is no UTF-8."""
        data: bytes = self.keys[row].as_py()
        return data.decode("utf-8", "surrogateescape")

    def members(self, row: int, parts: Iterable[Part]) -> dict[Part, Member]:
        """The members of a sample, as far as it has them."""
        key = self.key(row)
        found = {}
        for part in parts:
            number = PARTS.index(part)
            offset = int(self.offsets[row, number])
            if offset != _ABSENT:
                ending = self.spellings[self.endings[row, number]]
                found[part] = Member(f"{key}.{ending}", offset, int(self.sizes[row, number]))
        return found

    def digest(self, size: int) -> str:
        """Of the samples and their places in a tar of `size` bytes, wherever the tar is."""
        spelled = [len(key.as_py()) for key in self.keys]
        head = {"bytes": size, "keys": spelled, "spellings": self.spellings}
        total = hashlib.sha256(json.dumps(head).encode())
        total.update(b"".join(key.as_py() for key in self.keys))
        # Without the judged maps where there are none, so that the digests of such data sets stay.
        parts = len(PARTS) if (self.offsets[:, _JUDGED] != _ABSENT).any() else _JUDGED
        for array in (self.offsets, self.sizes, self.endings):
            total.update(array[:, :parts].astype("<i8").tobytes())
        return total.hexdigest()


def of_output(stream: IO[bytes], where: str, *, accepted: int, size: int) -> ShardIndex:
    """The samples of a shard of an output, from the sizes in its index; the tar is not looked into.

    Args:
        stream: `index/NNNNNN.parquet`, of which only the columns of keys, status and sizes are read.
        where: the index, for messages.
        accepted: samples of the shard, according to the manifest.
        size: bytes of the tar, according to the manifest.

    Raises:
        TrainingError: the index is damaged, or does not fit the manifest.
    """
    table, members = _columns(stream, where)
    table = table.filter(pc.equal(table["status"], "accepted"))
    if len(table) != accepted:
        raise _unfit(where, f"it has {len(table):,} accepted samples, the manifest {accepted:,}")
    sizes = np.full((len(table), len(members)), _ABSENT, np.int64)
    for number, member in enumerate(members):
        sizes[:, number] = pc.fill_null(table[columns_of(member)[0]], _ABSENT).to_numpy()
    if ((sizes < _ABSENT) | (sizes > size)).any():
        raise _unfit(where, f"it has sizes that are negative, or above that of the tar, {size:,} bytes")
    present = sizes != _ABSENT
    blocks = np.where(present, HEADER - (-np.maximum(sizes, 0) // HEADER) * HEADER, 0)
    ends = np.cumsum(blocks).reshape(blocks.shape)
    # A tar ends with two empty blocks, and is filled up to a whole record.
    content = int(blocks.sum()) + 2 * HEADER
    if -(-content // tarfile.RECORDSIZE) * tarfile.RECORDSIZE != size:
        raise _unfit(where, f"its files do not add up to the {size:,} bytes of the tar in the manifest")
    offsets = np.where(present, ends - blocks + HEADER, _ABSENT)
    if _OWN["judged"] not in members:
        members = [*members, _OWN["judged"]]
        offsets, sizes = (
            np.pad(array, ((0, 0), (0, 1)), constant_values=_ABSENT) for array in (offsets, sizes)
        )
    chosen = [members.index(_OWN[part]) for part in PARTS]
    endings = np.broadcast_to(np.arange(len(PARTS)), (len(table), len(PARTS)))
    keys = table["key"].cast(pa.binary()).combine_chunks()
    return ShardIndex(keys, offsets[:, chosen], sizes[:, chosen], endings, tuple(_OWN.values()))


def of_tar(stream: IO[bytes], url: str, names: PartNames, skipped: Counter[str]) -> ShardIndex:
    """The samples of a foreign tar that have an image, a mask or another map, from its headers.

    Args:
        stream: of the whole tar, at its beginning; it must be able to seek.
        url: the tar's, for messages.
        names: which members are which part.
        skipped: counts what is passed over, by reason, as the source `webdataset` does.

    Raises:
        SourceError: the tar is compressed, damaged or cut short.
    """

    def count(reason: str, *_: str) -> None:
        skipped[reason] += 1

    samples = grouped(_named(members(stream, url, skipped), skipped), count)
    rows: list[tuple[str, list[Member | None]]] = []
    for key, files in samples.items():
        parts = [_first(files, names.of(part)) for part in PARTS]
        if any(part is not None for part in parts):
            rows.append((key, parts))
        else:
            skipped["no_image"] += 1
    return _index(rows)


def to_parquet(index: ShardIndex, note: Mapping[str, object]) -> bytes:
    """An index to be kept.

    Args:
        note: a JSON object, which `from_parquet` gives back.
    """
    columns: dict[str, Any] = {"key": index.keys}
    for number, part in enumerate(PARTS):
        spelled = pa.DictionaryArray.from_arrays(
            pa.array(index.endings[:, number], pa.int32()), pa.array(index.spellings, pa.string())
        )
        columns[f"{part}_offset"] = index.offsets[:, number]
        columns[f"{part}_bytes"] = index.sizes[:, number]
        columns[f"{part}_ending"] = spelled.cast(pa.string())
    table = pa.table(columns).replace_schema_metadata({NOTE: json.dumps(note).encode()})
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    data: bytes = sink.getvalue().to_pybytes()
    return data


def from_parquet(data: bytes) -> tuple[ShardIndex, dict[str, Any]]:
    """The index and the note that `to_parquet` was given.

    Raises:
        ValueError: it is damaged.
    """
    try:
        table = pq.read_table(pa.BufferReader(data))
        note = json.loads((table.schema.metadata or {})[NOTE])
        offsets, sizes = (
            np.stack([table[f"{part}_{what}"].to_numpy() for part in PARTS], axis=1).astype(np.int64)
            for what in ("offset", "bytes")
        )
        endings, spellings = _numbered([table[f"{part}_ending"].to_pylist() for part in PARTS])
        keys = table["key"].cast(pa.binary()).combine_chunks()
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"damaged: {error}") from error
    absent = (offsets == _ABSENT) & (sizes == _ABSENT)
    if (
        not isinstance(note, dict)
        or keys.null_count
        or not (absent | (offsets >= HEADER) & (sizes >= 0)).all()
    ):
        raise ValueError("damaged: a key or the note is missing, or a place is impossible")
    return ShardIndex(keys, offsets, sizes, endings, spellings), note


def _columns(stream: IO[bytes], where: str) -> tuple[pa.Table, list[str]]:
    """The columns of keys, status and sizes, and the members that have sizes, in the order of the tar.

    Imported sets have other maps beside those of a build.
    """
    try:
        file = pq.ParquetFile(stream)
        members = _members_in(file.schema_arrow.names)
        wanted = ["key", "status", *(columns_of(member)[0] for member in members)]
        if any(
            file.schema_arrow.get_field_index(name) < 0
            or file.schema_arrow.field(name).type
            != (pa.string() if name in ("key", "status") else pa.int64())
            for name in wanted
        ):
            raise _unfit(where, "it has other columns than this version of Flawforge writes")
        if _size_of(file.metadata, wanted) > LARGEST_INDEX:
            raise _unfit(where, f"it is more than {LARGEST_INDEX:,} bytes when read")
        table = file.read(columns=wanted)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _unfit(where, f"it cannot be read: {error}") from error
    if table["key"].null_count or table["status"].null_count:
        raise _unfit(where, "a row has no key, or no status")
    return table, members


def _members_in(columns: Sequence[str]) -> list[str]:
    """All members of every build, and those of which an index has a size beside them; the JSON is the last in a tar."""
    stems = [name.removesuffix("_bytes") for name in columns if name.endswith("_bytes")]
    named = ["json" if stem == "json" else f"{stem}.png" for stem in stems]
    return [*named, *(member for member in USUAL_MEMBERS if member not in named)]


def _size_of(meta: Any, wanted: Sequence[str]) -> int:
    groups = (meta.row_group(number) for number in range(meta.num_row_groups))
    columns = (group.column(number) for group in groups for number in range(group.num_columns))
    return sum(column.total_uncompressed_size for column in columns if column.path_in_schema in wanted)


def _unfit(where: str, what: str) -> TrainingError:
    return TrainingError(f"{where}: {what}; `flawforge verify` tells what is wrong with the output")


def _named(found: Iterator[Member], skipped: Counter[str]) -> Iterator[tuple[str, str, Member]]:
    for member in found:
        named = split_name(member.name)
        if named:
            yield *named, member
        else:
            hidden = member.name.rpartition("/")[2].startswith(".")
            skipped["hidden" if hidden else "no_extension"] += 1


def _first(files: Mapping[str, Member], extensions: Sequence[str]) -> Member | None:
    return next((files[extension] for extension in extensions if extension in files), None)


def _index(rows: Sequence[tuple[str, Sequence[Member | None]]]) -> ShardIndex:
    shape = (len(rows), len(PARTS))
    offsets, sizes = np.full(shape, _ABSENT, np.int64), np.full(shape, _ABSENT, np.int64)
    spelled = [["" for _ in rows] for _ in PARTS]
    for row, (key, parts) in enumerate(rows):
        for number, member in enumerate(parts):
            if member is not None:
                offsets[row, number], sizes[row, number] = member.offset, member.size
                spelled[number][row] = member.name[len(key) + 1 :]
    keys = pa.array([key.encode("utf-8", "surrogateescape") for key, _ in rows], pa.binary())
    return ShardIndex(keys, offsets, sizes, *_numbered(spelled))


def _numbered(spelled: Sequence[Sequence[str]]) -> tuple[Integers, tuple[str, ...]]:
    """`ShardIndex.endings` and `spellings`, given the extensions of every part by row."""
    spellings = tuple(sorted({ending for column in spelled for ending in column}))
    numbers = {ending: number for number, ending in enumerate(spellings)}
    columns = [[numbers[ending] for ending in column] for column in spelled]
    return np.array(columns, np.int64).T, spellings
