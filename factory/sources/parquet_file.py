"""One Parquet file: its columns, and some of its rows, read in small pieces."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.types as pat

from actors.errors import Reject, SourceError
from factory.store import remote
from factory.store.remote_file import RemoteFile

_BUFFER = 1 << 20
"""Bytes of a column that are read at a time: without it, a row group's whole column, which may be a gigabyte."""

_GET_ANOTHER = "fetch or write the file again, or leave it out of source.urls"


class ParquetRows:
    """Reads the footer; rows are read on demand.

    Attributes:
        sizes: rows of every row group.

    Args:
        url: of the file.
        info: the file as the store reports it.

    Raises:
        SourceError: it is damaged or cut short, or its server gives whole files only.
        OSError: the store failed.
    """

    def __init__(self, url: str, info: remote.Info) -> None:
        self.url = url
        files, path = remote.open_store(url)
        self._stream = _Stream(files, path, remote.size_of(files, path, info))
        with self._damage_reported():
            self._file = pq.ParquetFile(self._stream, buffer_size=_BUFFER, pre_buffer=False)
            meta = self._file.metadata
            self.sizes = [meta.row_group(number).num_rows for number in range(meta.num_row_groups)]
            self._schema = self._file.schema_arrow

    @property
    def columns(self) -> list[str]:
        """Names of the columns, without those that occur more than once."""
        names: list[str] = self._schema.names
        return [name for name in names if names.count(name) == 1]

    def check(
        self,
        setting: str,
        column: str,
        fits: Callable[[pa.DataType], bool] = lambda kind: True,
        wanted: str = "",
    ) -> None:
        """Raises SourceError where the file has no such column, or one of another type.

        Args:
            setting: of the recipe, for messages.
            fits: whether a type will do.
            wanted: the types that will, in words.
        """
        if column not in self.columns:
            existing = ", ".join(map(repr, self.columns[:40])) or "none"
            raise SourceError(
                f"{self.url} has no column {column!r}, which {setting} names; its columns are: {existing}"
            )
        kind = plain(self._schema.field(column).type)
        if not fits(kind):
            raise SourceError(f"{self.url}: the column {column!r} holds {kind}; {setting} wants {wanted}")

    def batches(self, group: int, columns: Sequence[str], at_once: int) -> Iterator[pa.RecordBatch]:
        """Streams the rows of a row group, at most `at_once` together.

        Raises:
            SourceError: a part of the file is damaged.
            OSError: the store failed.
        """
        with self._damage_reported():
            yield from self._file.iter_batches(
                batch_size=at_once, row_groups=[group], columns=list(columns), use_threads=False
            )

    @contextmanager
    def _damage_reported(self) -> Iterator[None]:
        """Raise SourceError for damage. Arrow raises OSError for it, too, but a retry does not help."""
        try:
            yield
        except (pa.ArrowException, OSError, ValueError, KeyError) as error:
            failure = self._stream.failure
            if failure is not None:
                raise failure from None
            raise SourceError(
                f"{self.url} is damaged or no Parquet: {error!s:.500}; {_GET_ANOTHER}"
            ) from error


class _Stream(RemoteFile):
    """Keeps the store's own error, which Arrow may hand on as one of its own.

    Attributes:
        failure: the last error of the remote.
    """

    def __init__(self, files: Any, path: str, size: int) -> None:
        super().__init__(self._recorded, size)
        self._read = partial(remote.read_bytes, files, path)
        self.failure: Exception | None = None

    def _recorded(self, start: int, end: int) -> bytes:
        try:
            return self._read(start, end)
        except Exception as error:
            self.failure = error
            raise


def plain(kind: pa.DataType) -> pa.DataType:
    """The type of the values, whatever they are encoded by."""
    return kind.value_type if pat.is_dictionary(kind) else kind


def is_bytes(kind: pa.DataType) -> bool:
    tests = (pat.is_binary, pat.is_large_binary, pat.is_fixed_size_binary, pat.is_binary_view)
    return any(test(plain(kind)) for test in tests)


def is_text(kind: pa.DataType) -> bool:
    return any(test(plain(kind)) for test in (pat.is_string, pat.is_large_string, pat.is_string_view))


def value(cells: pa.Array, row: int) -> Any:
    """One cell as a plain Python value.

    Raises:
        Reject: `bad_cell`, where it cannot be one, such as text that is not UTF-8.
    """
    try:
        return cells[row].as_py()
    except (ValueError, ImportError, pa.ArrowException) as error:
        raise Reject("bad_cell", f"the cell cannot be read: {error!s:.200}") from None
