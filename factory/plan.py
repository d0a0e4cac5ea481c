"""The plan: a table on disk that deals the source's items to shards. Once built upon, it never changes."""

from __future__ import annotations

import hashlib
import json
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from actors.errors import OutputError, SourceError
from factory.sources.reference import Reference
from factory.storage import Storage

PATH = "plan.parquet"
ROWS_PER_GROUP = 4096
"""At least so many rows are a row group of a plan: few groups, since every reader loads the table of all of them."""

_SCHEMA = pa.schema(
    [
        ("shard", pa.int32()),
        ("key", pa.string()),
        ("url", pa.string()),
        ("member", pa.string()),
        ("caption", pa.string()),
        ("version", pa.string()),
    ]
)
_NOTE = b"flawforge"


@dataclass(frozen=True)
class Plan:
    """A plan on disk: the items of shard 0, then those of shard 1, and so on. A row group holds whole shards.

    Attributes:
        storage: the output that it belongs to.
        items: number of planned items, at least one.
        runs: (items per shard, shards) for every run of shards of one size, in order.
        skipped: what the source passed over while listing, by reason.
    """

    storage: Storage
    items: int
    runs: tuple[tuple[int, int], ...]
    skipped: Mapping[str, int]

    @property
    def shards(self) -> int:
        """Number of planned shards."""
        return sum(count for _, count in self.runs)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Items of every shard."""
        return tuple(size for size, count in self.runs for _ in range(count))

    def size(self, number: int) -> int:
        """Items of one shard."""
        return self._place(number)[1]

    def shard(self, number: int) -> list[Reference]:
        """The items of one shard, in their order."""
        first, size = self._place(number)
        with self.storage.open(PATH) as stream:
            try:
                file = pq.ParquetFile(stream)
                group, begin = 0, 0
                while begin + file.metadata.row_group(group).num_rows <= first:
                    begin += file.metadata.row_group(group).num_rows
                    group += 1
                table = file.read_row_group(group).slice(first - begin, size)
            except (pa.ArrowException, OSError, ValueError, IndexError) as error:
                raise OutputError(f"{self.storage.url}: {PATH} is damaged: {error}") from error
        if not table.schema.equals(_SCHEMA):
            raise OutputError(f"{self.storage.url}: {PATH} is damaged: its columns are not those of a plan")
        if len(table) != size or set(table["shard"].to_pylist()) != {number}:
            raise OutputError(
                f"{self.storage.url}: row group {group} of {PATH} does not hold shard {number} in its place"
            )
        return [Reference(**row) for row in table.drop_columns(["shard"]).to_pylist()]

    def _place(self, number: int) -> tuple[int, int]:
        """The first row of a shard, and its items."""
        first, before = 0, number
        for size, count in self.runs:
            if before < count:
                return first + before * size, size
            first, before = first + size * count, before - count
        raise ValueError(f"the plan has {self.shards} shards, and no shard {number}")


def draw_plan(references: Iterable[Reference], per_shard: int, skipped: Mapping[str, int], path: Path) -> str:
    """Lists a source once and deals its items to shards, in a Parquet file at `path`; its sha256.

    What is in memory does not grow with the items, but for 8 bytes each.

    Args:
        skipped: read after the listing has ended; sources count there what they pass over.

    Raises:
        SourceError: the source has no items, or one key twice.
    """
    hashes, stream = array("Q"), iter(references)

    def shards() -> Iterator[list[Reference]]:
        while group := list(islice(stream, per_shard)):
            hashes.extend(_hash(item.key) for item in group)
            yield group

    sha256 = write_plan(shards(), skipped, path)
    if not hashes:
        passed = ", ".join(f"{count} {reason}" for reason, count in sorted(skipped.items())) or "nothing else"
        raise SourceError(f"the source has no items to plan (passed over: {passed})")
    _check_keys(np.frombuffer(hashes, dtype=np.uint64), path)
    return sha256


def write_plan(shards: Iterable[Sequence[Reference]], skipped: Mapping[str, int], path: Path) -> str:
    """Writes a plan to a file at `path`, and returns its sha256.

    Args:
        shards: the items of every shard, none empty.
        skipped: read after the last shard.
    """
    runs: list[list[int]] = []
    rows: list[dict[str, object]] = []
    with pq.ParquetWriter(path, _SCHEMA) as writer:
        for number, items in enumerate(shards):
            if not runs or runs[-1][0] != len(items):
                runs.append([len(items), 0])
            runs[-1][1] += 1
            rows += [{"shard": number, **vars(item)} for item in items]
            if len(rows) >= ROWS_PER_GROUP:
                writer.write_table(pa.Table.from_pylist(rows, schema=_SCHEMA))
                rows = []
        if rows:
            writer.write_table(pa.Table.from_pylist(rows, schema=_SCHEMA))
        note = {"runs": runs, "skipped": dict(sorted(skipped.items()))}
        writer.add_key_value_metadata({_NOTE: json.dumps(note)})
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def read_plan(storage: Storage) -> Plan:
    """Raises OutputError where there is no plan, or where it is damaged."""
    with storage.open(PATH) as stream:
        try:
            meta = pq.ParquetFile(stream).metadata
            note = json.loads((meta.metadata or {})[_NOTE])
            runs = tuple((int(size), int(count)) for size, count in note["runs"])
            plan = Plan(storage, meta.num_rows, runs, note["skipped"])
        except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
            raise OutputError(f"{storage.url}: {PATH} is damaged: {error!r}") from error
    if sum(size * count for size, count in plan.runs) != plan.items:
        raise OutputError(f"{storage.url}: {PATH} is damaged: its shards and its rows are not as many")
    return plan


def shard_name(number: int) -> str:
    """`000042`: shards sort by name."""
    return f"{number:06d}"


def _hash(key: str) -> int:
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "little")


def _check_keys(hashes: np.ndarray[tuple[int], np.dtype[np.uint64]], path: Path) -> None:
    """Raises SourceError for the first key that is there twice. Equal hashes are looked at in the plan itself."""
    found, counts = np.unique(hashes, return_counts=True)
    twice = found[counts > 1]
    if not len(twice):
        return
    seen = set[str]()
    rows = np.flatnonzero(np.isin(hashes, twice))
    for key, url in _rows(path, rows):
        if key in seen:
            raise SourceError(f"the source gives the key {key!r} twice; the second is {url}")
        seen.add(key)


def _rows(path: Path, rows: np.ndarray[tuple[int], np.dtype[np.int64]]) -> Iterator[tuple[str, str]]:
    """Key and url of some rows of a plan, given rising."""
    with pq.ParquetFile(path) as file:
        first = 0
        for group in range(file.num_row_groups):
            end = first + file.metadata.row_group(group).num_rows
            here = rows[(rows >= first) & (rows < end)] - first
            if len(here):
                table = pc.take(file.read_row_group(group, columns=["key", "url"]), pa.array(here))
                yield from zip(table["key"].to_pylist(), table["url"].to_pylist(), strict=True)
            first = end
