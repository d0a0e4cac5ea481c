"""Two Parquet files: bytes, or where some cells are masked all but the bytes of these cells' columns."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tools.equal_bytes.texts import json_differences, was_and_is

_PLACES = ("file_offset", "dictionary_page_offset", "data_page_offset")
"""The places of a column's bytes: later columns move where a masked one takes fewer or more bytes."""

_SIZES = ("total_compressed_size", "total_uncompressed_size", "statistics")


def table_differences(
    before: bytes, after: bytes, masks_before: Mapping[str, str], masks_after: Mapping[str, str]
) -> Iterator[tuple[str, str]]:
    """Row and column, and what differs in it: values, schema, metadata, or the encoding of columns.

    Args:
        before, after: content of the files.
        masks_before, masks_after: placeholders by cells that may differ.
    """
    if before == after:
        return
    try:
        yield from list(_readable_differences((before, after), (masks_before, masks_after)))
    except (pa.ArrowException, OSError, ValueError) as error:
        yield "", f"it cannot be read as Parquet: {error}"


def _readable_differences(
    data: tuple[bytes, bytes], masks: tuple[Mapping[str, str], Mapping[str, str]]
) -> Iterator[tuple[str, str]]:
    files = [pq.ParquetFile(io.BytesIO(one)) for one in data]
    old, new = (file.read() for file in files)
    if not old.schema.equals(new.schema, check_metadata=True):
        yield "schema", was_and_is(str(old.schema), str(new.schema))
        return
    masked: set[str] = set()
    found = []
    if len(old) != len(new):
        found.append(("rows", was_and_is(len(old), len(new))))
    for name in old.column_names:
        values = old[name].to_pylist(), new[name].to_pylist()
        for row, (one, other) in enumerate(zip(*values, strict=False)):
            places = _placeholder(one, masks[0]), _placeholder(other, masks[1])
            if places[0] is not None and places[0] == places[1]:
                masked.add(name)
            elif one != other and repr(one) != repr(other):  # NaN is not equal to itself
                found.append((f"row {row} {name}", was_and_is(places[0] or one, places[1] or other)))
    found = found or list(_encoding(files, data, masked))
    if not found and not masked:
        found = [("", "all values are equal, and the bytes of the file differ")]
    yield from found


def _placeholder(value: Any, masks: Mapping[str, str]) -> str | None:
    return masks.get(value) if isinstance(value, str) else None


def _encoding(files: list[Any], data: tuple[bytes, bytes], masked: set[str]) -> Iterator[tuple[str, str]]:
    """Differences of footer and column bytes, apart from the masked columns."""
    old, new = (_footer(file.metadata, masked) for file in files)
    yield from json_differences(old, new)
    if old != new:
        return
    for group in range(files[0].metadata.num_row_groups):
        for column in range(files[0].metadata.num_columns):
            chunks = [file.metadata.row_group(group).column(column) for file in files]
            name = chunks[0].path_in_schema
            if name not in masked and len({_bytes_of(*pair) for pair in zip(chunks, data, strict=True)}) > 1:
                yield f"row group {group} {name}", "the values are equal, and their bytes differ"


def _bytes_of(chunk: Any, data: bytes) -> bytes:
    start = chunk.dictionary_page_offset or chunk.data_page_offset
    return data[start : start + chunk.total_compressed_size]


def _footer(metadata: Any, masked: set[str]) -> dict[str, Any]:
    """The footer's content without places, and for masked columns without sizes and statistics."""
    groups = []
    for group in range(metadata.num_row_groups):
        columns = {}
        for column in range(metadata.num_columns):
            chunk = metadata.row_group(group).column(column)
            about = {key: value for key, value in chunk.to_dict().items() if key not in _PLACES}
            if chunk.path_in_schema in masked:
                about = {key: value for key, value in about.items() if key not in _SIZES}
            columns[chunk.path_in_schema] = {key: repr(value) for key, value in about.items()}
        groups.append({"rows": metadata.row_group(group).num_rows, "columns": columns})
    return {
        "created_by": metadata.created_by,
        "format_version": metadata.format_version,
        "metadata": repr(metadata.metadata),
        "row_groups": groups,
    }
