"""Reads the index of a shard, and checks its rows against each other, the plan and the sidecar."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from actors.batch import JUDGED_AREA, METRICS
from actors.errors import OutputError
from factory.maintain.made_by import MadeBy
from factory.output.reference import Reference
from factory.output.shards.images import check_preview
from factory.output.shards.previews import NAMES, PREVIEW_SIDE
from factory.output.shards.records import (
    INDEX_SCHEMAS,
    MEMBERS,
    Sidecar,
    columns_of,
    index_path,
    preview_names,
    stats_path,
)
from factory.recipe.errors import shown
from factory.store.storage import Storage

Row = Mapping[str, object]

LARGEST_INDEX = 1 << 30
"""Bytes of an index after decompression."""

_HASHES = frozenset(column for name in MEMBERS for column in columns_of(name))
_OPTIONAL = {*METRICS, JUDGED_AREA, *(f"preview_{name}" for name in NAMES)} | _HASHES


def read_index(storage: Storage, number: int) -> list[dict[str, object]]:
    """The rows of one shard's index.

    Raises:
        OutputError: it is missing or damaged.
    """
    return index_rows(storage.read(index_path(number)), f"{storage.url}: {index_path(number)}")


def index_rows(data: bytes, where: str) -> list[dict[str, object]]:
    """The rows of an index; `where` names it in messages.

    Raises:
        OutputError: it is damaged, or has other columns.
    """
    try:
        file = pq.ParquetFile(io.BytesIO(data))
        meta = file.metadata
        size = sum(meta.row_group(group).total_byte_size for group in range(meta.num_row_groups))
        if size > LARGEST_INDEX:
            raise OutputError(f"{where} is {size:,} bytes when read; at most {LARGEST_INDEX:,} are")
        if not any(file.schema_arrow.equals(schema) for schema in INDEX_SCHEMAS.values()):
            raise OutputError(f"{where} has other columns than this version writes")
        rows: list[dict[str, object]] = file.read().to_pylist()
    except (pa.ArrowException, OSError, ValueError) as error:
        raise OutputError(f"{where} is damaged: {error}") from error
    return rows


def check_index(
    number: int, rows: Sequence[Row], planned: Sequence[Reference], sidecar: Sidecar, made_by: MadeBy
) -> Iterator[tuple[str, str]]:
    """Where and what is wrong with an index and with the counts of its sidecar."""
    path = index_path(number)
    if odd := _odd_columns(rows[0], made_by) if rows else "":
        yield path, odd
        return
    if [row["key"] for row in rows] != [item.key for item in planned]:
        yield path, "its keys are not those of the plan, in the plan's order"
    else:
        for row, item in zip(rows, planned, strict=True):
            if row["source"] != item.url:
                yield (
                    f"{path} {row['key']}",
                    f"its source is {shown(row['source'])}, the plan has {item.url!r}",
                )
    for row in rows:
        for what in check_row(row, made_by):
            yield f"{path} {row['key']}", what
    rejected = [row for row in rows if row["status"] == "rejected"]
    counts = {
        "planned": len(rows),
        "accepted": len(rows) - len(rejected),
        "rejected": len(rejected),
        "unverified": sum(row["status"] == "accepted" and not row["verified"] for row in rows),
        "unet_rows": sum(row["unet_rows"] or 0 for row in rows),  # type: ignore[misc]
        "reasons": dict(sorted(Counter(str(row["reason"]) for row in rejected).items())),
    }
    for name, count in counts.items():
        if getattr(sidecar, name) != count:
            yield stats_path(number), f"{name} is {getattr(sidecar, name)}, the index has {count}"


def check_row(row: Row, made_by: MadeBy) -> Iterator[str]:
    """What is wrong with a row in itself."""
    if odd := _odd_columns(row, made_by):
        yield odd
        return
    empty = [name for name, value in row.items() if value is None and name not in _OPTIONAL]
    if empty:
        yield f"no value for {', '.join(empty)}"
        return
    counts = ("attempts", "inversion_steps", "seed", "unet_rows", *made_by.further.counts)
    low = [name for name in counts if row[name] < 0]  # type: ignore[operator]
    if low:
        yield f"negative values for {', '.join(low)}"
    hashed = {column for name in made_by.members for column in columns_of(name)}
    filled = {name for name in _OPTIONAL if row.get(name) is not None}
    if row["status"] == "rejected":
        if not row["reason"] or not row["stage"]:
            yield "rejected without a reason"
        if filled & _HASHES:
            yield "rejected, but with hashes of files"
        yield from _check_previews(row, made_by)
    elif row["status"] == "accepted":
        wanted = {*METRICS, *made_by.further.figures, *hashed}
        if filled != wanted:
            yield f"accepted, but with other columns than these filled: {', '.join(sorted(filled ^ wanted))}"
            return
        if row["reason"] or row["stage"] or row["detail"]:
            yield "accepted, but with a reason for a reject"
        yield from _check_verified(row, made_by)
        yield from _check_counts(row, made_by)
    else:
        yield f"its status is {shown(row['status'])}; allowed: accepted, rejected"


def _odd_columns(row: Row, made_by: MadeBy) -> str:
    """How the columns differ from those of the recipe; empty where they do not."""
    columns = INDEX_SCHEMAS[made_by.further].names
    odd = ", ".join(sorted(row.keys() ^ set(columns)))
    return f"it has other columns than its recipe gives: {odd}" if odd else ""


def _check_previews(row: Row, made_by: MadeBy) -> Iterator[str]:
    for name in (f"preview_{name}" for name in preview_names(made_by.further)):
        data = row[name]
        if isinstance(data, bytes):
            try:
                check_preview(data, PREVIEW_SIDE)
            except ValueError as error:
                yield f"{name}: {error}"


def _check_verified(row: Row, made_by: MadeBy) -> Iterator[str]:
    inside, outside = row["change_inside"], row["change_outside"]
    if row["verified"]:
        if inside < made_by.least_inside or outside > made_by.most_outside:  # type: ignore[operator]
            yield (
                f"verified with change_inside {inside} and change_outside {outside}; the recipe asks for at least "
                f"{made_by.least_inside} and at most {made_by.most_outside}"
            )
    elif not made_by.keeps_failures:
        yield "not verified; the recipe rejects such samples"


def _check_counts(row: Row, made_by: MadeBy) -> Iterator[str]:
    """Whether the counts of regions fit each other and, of a verified sample, the judge's verdict."""
    found: dict[str, int] = {name: row[name] for name in made_by.further.counts}  # type: ignore[misc]
    candidates, regions = found.get("candidates"), found.get("regions")
    if regions is not None and (regions < 1 or (candidates is not None and regions > candidates)):
        yield f"{regions} regions, of {shown(candidates)} candidates"
    broken = found.get("broken_regions")
    if broken is None or regions is None:
        return
    if broken > regions:
        yield f"{broken} broken regions of {regions}"
    elif row["verified"] and broken < (regions if made_by.every_region else 1):
        asked = "one in every region" if made_by.every_region else "one"
        yield f"verified with {broken} broken regions of {regions}; the recipe asks for {asked}"
