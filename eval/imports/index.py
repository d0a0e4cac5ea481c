"""Reads the index of a shard of an import or a prediction."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from actors.errors import OutputError
from eval.imports.labelled_set import JSON
from factory.maintain.verify_index import LARGEST_INDEX
from factory.output.shards.records import ITEM_COLUMNS, columns_of, index_path
from factory.store.storage import Storage

Row = Mapping[str, object]


def read_rows(storage: Storage, number: int) -> list[dict[str, object]]:
    """The rows of one shard's index.

    Raises:
        OutputError: it is missing or damaged, or not the index of an import.
    """
    where = f"{storage.url}: {index_path(number)}"
    try:
        file = pq.ParquetFile(io.BytesIO(storage.read(index_path(number))))
        groups = (file.metadata.row_group(group) for group in range(file.metadata.num_row_groups))
        if sum(group.total_byte_size for group in groups) > LARGEST_INDEX:
            raise OutputError(f"{where} is more than {LARGEST_INDEX:,} bytes when read")
        found = {field.name: field.type for field in file.schema_arrow}
        if not (dict(ITEM_COLUMNS).items() <= found.items() and {*columns_of(JSON)} <= found.keys()):
            raise OutputError(f"{where} has other columns than an import writes")
        rows: list[dict[str, object]] = file.read().to_pylist()
    except (pa.ArrowException, OSError, ValueError) as error:
        raise OutputError(f"{where} is damaged: {error}") from error
    return rows


def read_columns(storage: Storage, number: int, columns: Sequence[str]) -> pa.Table:
    """Some columns of one shard's index, and nothing else of it.

    Raises:
        OutputError: the index is missing or damaged, or has no such columns.
    """
    path = index_path(number)
    with storage.open(path) as stream:
        try:
            return pq.ParquetFile(stream).read(columns=list(columns))
        except (pa.ArrowException, OSError, ValueError, KeyError) as error:
            raise OutputError(f"{storage.url}: {path} is damaged: {error}; run flawforge verify") from error
