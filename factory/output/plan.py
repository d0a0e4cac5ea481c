"""The plan: tables on disk that deal the source's items to shards. Once built upon, a table never changes.

What comes later (more items, another recipe for the same ones, rejected ones tried again) is one more table, a version.
"""

from __future__ import annotations

import hashlib
import json
import re
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, Field

from actors.errors import OutputError, SourceError
from factory.output.layout import VERSIONS
from factory.output.reference import Reference
from factory.store.storage import Storage

PATH = "plan.parquet"
ROWS_PER_GROUP = 4096
"""Least rows of a row group of a plan: few groups, since every reader loads the metadata of all of them."""

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
_IDENTITY = re.compile(r"(\d{4})\.identity\.json")


class NoItemsError(SourceError):
    """The source has no items."""


@dataclass(frozen=True)
class Version:
    """One table of a plan. Its shards follow on those of the version before.

    Attributes:
        number: 1 for the first.
        first: number of its first shard.
        items: number of its rows.
        runs: (items per shard, shards) for every run of shards of one size, in order.
        skipped: what the source passed over while it was listed, by reason; empty where no source was.
        retries: whether its items are rejected ones of the versions before, under their old keys.
        footer: of its Parquet file, which is long where the plan is, and so is read once only.
    """

    number: int
    first: int
    items: int
    runs: tuple[tuple[int, int], ...]
    skipped: Mapping[str, int]
    retries: bool
    footer: pq.FileMetaData = field(repr=False, compare=False)

    @property
    def path(self) -> str:
        return plan_path(self.number)

    @property
    def shards(self) -> range:
        """Numbers of its shards."""
        return range(self.first, self.first + sum(count for _, count in self.runs))


@dataclass(frozen=True)
class Plan:
    """A plan on disk: the items of shard 0, then those of shard 1, and so on. A row group holds whole shards.

    Attributes:
        storage: the output that it belongs to.
        versions: the tables, at least one.
    """

    storage: Storage
    versions: tuple[Version, ...]

    @property
    def items(self) -> int:
        """Number of planned items, those that are tried again counted again."""
        return sum(version.items for version in self.versions)

    @property
    def retried(self) -> int:
        """How many of the items are rejected ones of earlier versions, tried again."""
        return sum(version.items for version in self.versions if version.retries)

    @property
    def shards(self) -> int:
        """Number of planned shards."""
        return self.versions[-1].shards.stop

    @property
    def skipped(self) -> Mapping[str, int]:
        """What the source passed over when it was last listed, by reason."""
        return [version for version in self.versions if not version.retries][-1].skipped

    def size(self, number: int) -> int:
        """Items of one shard."""
        return self._place(number)[2]

    def version_of(self, number: int) -> Version:
        """The version that a shard belongs to."""
        for version in self.versions:
            if number in version.shards:
                return version
        raise ValueError(f"the plan has {self.shards} shards, and no shard {number}")

    def shard(self, number: int) -> list[Reference]:
        """The items of one shard, in their order."""
        version, first, size = self._place(number)
        with self.storage.open(version.path) as stream:
            try:
                group, begin = 0, 0
                while begin + version.footer.row_group(group).num_rows <= first:
                    begin += version.footer.row_group(group).num_rows
                    group += 1
                file = pq.ParquetFile(stream, metadata=version.footer)
                table = file.read_row_group(group).slice(first - begin, size)
            except (pa.ArrowException, OSError, ValueError, IndexError) as error:
                raise OutputError(f"{self.storage.url}: {version.path} is damaged: {error}") from error
        if _has_nulls(table) or len(table) != size or set(table["shard"].to_pylist()) != {number}:
            raise OutputError(
                f"{self.storage.url}: row group {group} of {version.path} does not hold shard {number} in its place"
            )
        return [Reference(**row) for row in table.drop_columns(["shard"]).to_pylist()]

    def keys(self, version: Version) -> Iterator[tuple[list[int], list[str]]]:
        """Shard numbers and keys of one version, a row group at a time."""
        yield from self.columns(version, "shard", "key")

    def columns(self, version: Version, *names: str) -> Iterator[tuple[Any, ...]]:
        """Values of some columns of one version, a row group at a time."""
        with self.storage.open(version.path) as stream:
            try:
                file = pq.ParquetFile(stream)
                for group in range(file.num_row_groups):
                    table = file.read_row_group(group, columns=list(names))
                    if _has_nulls(table):
                        raise ValueError(f"row group {group} has empty cells")
                    yield tuple(table[name].to_pylist() for name in names)
            except (pa.ArrowException, OSError, ValueError, KeyError) as error:
                raise OutputError(f"{self.storage.url}: {version.path} is damaged: {error}") from error

    def _place(self, number: int) -> tuple[Version, int, int]:
        """The version of a shard, its first row there, and its items."""
        version = self.version_of(number)
        first, before = 0, number - version.first
        for size, count in version.runs:
            if before < count:
                return version, first + before * size, size
            first, before = first + size * count, before - count
        raise AssertionError(f"{version} does not hold shard {number}")


def plan_path(version: int) -> str:
    return PATH if version == 1 else f"{VERSIONS}/{version:04d}.plan.parquet"


def draw_plan(
    references: Iterable[Reference],
    per_shard: int,
    skipped: Mapping[str, int],
    path: Path,
    *,
    first: int = 0,
    retries: bool = False,
) -> str:
    """Lists a source once and deals its items to shards, in a Parquet file at `path`; its sha256.

    What is in memory does not grow with the items, but for 8 bytes each.

    Args:
        skipped: read after the listing has ended; sources count in it what they skip.
        first: number of the first shard.
        retries: see `Version`.

    Raises:
        NoItemsError: there are no items.
        SourceError: a key is duplicated.
    """
    hashes, stream = array("Q"), iter(references)

    def shards() -> Iterator[list[Reference]]:
        while group := list(islice(stream, per_shard)):
            hashes.extend(hash_of(item.key) for item in group)
            yield group

    sha256 = write_plan(shards(), skipped, path, first=first, retries=retries)
    if not hashes:
        passed = ", ".join(f"{count} {reason}" for reason, count in sorted(skipped.items())) or "nothing else"
        raise NoItemsError(f"the source has no items to plan (passed over: {passed})")
    _check_keys(np.frombuffer(hashes, dtype=np.uint64), path)
    return sha256


def write_plan(
    shards: Iterable[Sequence[Reference]],
    skipped: Mapping[str, int],
    path: Path,
    *,
    first: int = 0,
    retries: bool = False,
) -> str:
    """Writes a plan to a file at `path`, and returns its sha256.

    Args:
        shards: the items of every shard, none empty.
        skipped: read after the last shard.
        first: number of the first shard.
        retries: see `Version`.
    """
    runs: list[list[int]] = []
    rows: list[dict[str, object]] = []
    with pq.ParquetWriter(path, _SCHEMA) as writer:
        for number, items in enumerate(shards, start=first):
            if not runs or runs[-1][0] != len(items):
                runs.append([len(items), 0])
            runs[-1][1] += 1
            rows += [{"shard": number, **vars(item)} for item in items]
            if len(rows) >= ROWS_PER_GROUP:
                writer.write_table(pa.Table.from_pylist(rows, schema=_SCHEMA))
                rows = []
        if rows:
            writer.write_table(pa.Table.from_pylist(rows, schema=_SCHEMA))
        note = {"runs": runs, "skipped": dict(sorted(skipped.items())), "first": first, "retries": retries}
        writer.add_key_value_metadata({_NOTE: json.dumps(note)})
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def read_plan(storage: Storage, versions: int | None = None) -> Plan:
    """The plan of an output: all of its versions, or the first `versions` of them.

    Raises:
        OutputError: there is no plan, or it is damaged.
    """
    count = version_count(storage) if versions is None else versions
    found: list[Version] = []
    for number in range(1, count + 1):
        found.append(_read_version(storage, number, found[-1].shards.stop if found else 0))
    if found[0].retries:
        raise OutputError(f"{storage.url}: {PATH} is damaged: the first version cannot be one of retries")
    return Plan(storage, tuple(found))


def version_count(storage: Storage) -> int:
    """How many versions an output's plan has. A version exists once its identity is written."""
    found = [int(match[1]) for name in storage.names(VERSIONS) if (match := _IDENTITY.fullmatch(name))]
    if sorted(found) != list(range(2, 2 + len(found))):
        raise OutputError(f"{storage.url}: {VERSIONS}/ is damaged: it has the versions {sorted(found)}")
    return 1 + len(found)


class _Note(BaseModel):
    """The metadata of a plan's file."""

    model_config = ConfigDict(extra="forbid", strict=True)

    runs: list[tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]]]
    skipped: dict[str, int]
    first: int = Field(ge=0)
    retries: bool


def _read_version(storage: Storage, number: int, first: int) -> Version:
    path = plan_path(number)
    with storage.open(path) as stream:
        try:
            meta = pq.ParquetFile(stream).metadata
            note = _Note.model_validate_json((meta.metadata or {})[_NOTE])
            same = meta.schema.to_arrow_schema().equals(_SCHEMA)
        except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
            raise OutputError(f"{storage.url}: {path} is damaged: {error!r}") from error
    version = Version(number, note.first, meta.num_rows, tuple(note.runs), note.skipped, note.retries, meta)
    if not same:
        raise OutputError(f"{storage.url}: {path} is damaged: its columns are not those of a plan")
    if not note.runs or sum(size * count for size, count in version.runs) != version.items:
        raise OutputError(f"{storage.url}: {path} is damaged: its shards and its rows are not as many")
    if version.first != first:
        raise OutputError(
            f"{storage.url}: {path} is damaged: its first shard is {version.first}, not {first}"
        )
    return version


def _has_nulls(table: pa.Table) -> bool:
    return any(column.null_count for column in table.columns)


def shard_name(number: int) -> str:
    """`000042`: shards sort by name."""
    return f"{number:06d}"


def number_in(name: str, suffix: str) -> int | None:
    """The number of the shard whose file has this name; None where no shard has it."""
    stem = name.removesuffix(suffix)
    if not name.endswith(suffix) or not (stem.isascii() and stem.isdecimal() and len(stem) < 16):
        return None
    return int(stem) if shard_name(int(stem)) == stem else None


def hash_of(key: str) -> int:
    """A 64-bit hash of a key; among ten million keys, the chance of a collision is 1 in 400,000."""
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "little")


def _check_keys(hashes: np.ndarray[tuple[int], np.dtype[np.uint64]], path: Path) -> None:
    """Raise SourceError for the first duplicated key. Keys with equal hashes are compared in the plan itself."""
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
