"""Parquet files: a row is an item, with its image in a cell, or the place of its image."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby, repeat
from typing import Any

import pyarrow as pa
import pyarrow.types as pat

from actors.errors import Reject, SourceError
from factory.output.reference import Raw, Reference, key_for
from factory.sources.cell import Cells
from factory.sources.choice import EVERYTHING, Candidate, Choice, GiveFields
from factory.sources.listing import Found, Wanted, extension_of, extension_reason, find
from factory.sources.parquet_file import ParquetRows, is_bytes, is_text, value
from factory.store import remote

_EXTENSIONS = ("parquet", "pq")
_ROWS_WITH_IMAGES = 8
_ROWS_OF_FIELDS = 4096
_READS_AT_ONCE = 8


@dataclass(frozen=True)
class _Planned:
    """A reference, and its row: the number of the row group, and the place in it."""

    reference: Reference
    group: int
    row: int


Row = dict[str, Any]
"""What a row holds: `image`, and where the recipe names them `mask` and `caption`; a `Reject` for a bad cell."""


class ParquetSource:
    """Rows in Parquet files. Listing reads the footers, and of the columns only those that filters look at.

    Args:
        urls: fsspec URLs of files, folders or globs; brace ranges are written out.
        image: columns of images, the first that a file has: encoded bytes, Hugging Face's struct of bytes and path,
            or the place of a file, see `factory.sources.cell`.
        mask: column of masks, like those of images, or None.
        caption: column of captions, or None.
        choice: which of the rows are taken; filters look at columns.
        allow: prefixes that cells may name beside the folder of their Parquet file, see `factory.store.gate`.
        base64: the columns of images and masks hold base64.
    """

    def __init__(
        self,
        urls: Sequence[str],
        *,
        image: Sequence[str],
        mask: str | None = None,
        caption: str | None = None,
        choice: Choice = EVERYTHING,
        allow: Sequence[str] = (),
        base64: bool = False,
    ) -> None:
        self.skipped: Counter[str] = Counter()
        self._urls = list(urls)
        self._image, self._mask, self._caption = list(image), mask, caption
        self._choice = choice
        self._reader = Cells(allow, base64=base64)

    def list(self) -> Iterator[Reference]:
        """Streams the rows; see `Source.list`. Captions are read with the items."""
        self.skipped.clear()
        yield from self._choice(self._candidates(), self.skipped)

    def read(self, references: Sequence[Reference]) -> Iterator[tuple[Reference, Raw | Reject]]:
        """Streams the rows, neighbours in a row group together; see `Source.read`."""
        for url, some in groupby(references, lambda reference: reference.url):
            rows = [_planned(reference) for reference in some]
            yield from remote.read_ahead(
                partial(_raw, self._reader, url), self._cells(url, rows), _READS_AT_ONCE
            )

    def _candidates(self) -> Iterator[Candidate]:
        wanted = Wanted(
            "Parquet files", lambda name: None if extension_of(name, _EXTENSIONS) else extension_reason(name)
        )
        for found in find(self._urls, wanted, self.skipped):
            rows = ParquetRows(found.url, found.info)
            self._columns(rows)
            for name in self._choice.fields:
                rows.check("source.filters", name)
            version, first = remote.version_of(found.info), 0
            for group, size in enumerate(rows.sizes):
                for row, fields in enumerate(self._fields(rows, group, size)):
                    yield Candidate(_reference(found, version, group, row, first + row), fields)
                first += size

    def _fields(self, rows: ParquetRows, group: int, size: int) -> Iterator[GiveFields]:
        """For every row of a row group, what gives its fields."""
        names = self._choice.fields
        if not names:
            yield from repeat(dict, size)
            return
        for batch in rows.batches(group, names, _ROWS_OF_FIELDS):
            columns = _values_of(batch)
            yield from (partial(_fields_in, columns, row) for row in range(len(batch)))

    def _columns(self, rows: ParquetRows) -> dict[str, str]:
        """The file's columns by part of the item.

        Raises:
            SourceError: a column is missing, or of an unsupported type.
        """
        image = next((name for name in self._image if name in rows.columns), self._image[0])
        columns = {"image": image, "mask": self._mask, "caption": self._caption}
        found = {part: name for part, name in columns.items() if name is not None}
        for part, name in found.items():
            if part == "caption":
                rows.check("source.fields.caption", name, is_text, "text")
            else:
                rows.check(
                    f"source.fields.{part}", name, _may_hold_images, "bytes, places, or a struct of them"
                )
        return found

    def _cells(self, url: str, items: Sequence[_Planned]) -> Iterator[tuple[Reference, Row]]:
        """What the wanted rows of one file hold, in the order of the items; checks that the file is as planned."""
        files, path = remote.open_store(url)
        info = remote.info_of(files, path)
        if info is None:
            raise remote.gone(url)
        if any(remote.version_of(info) != item.reference.version for item in items):
            raise remote.changed(url)
        rows = ParquetRows(url, info)
        columns = self._columns(rows)
        for group, some in groupby(items, lambda item: item.group):
            neighbours = list(some)
            stream = _rows_of(rows, group, columns, {item.row for item in neighbours})
            held: dict[int, Row] = {}
            for item in neighbours:
                while item.row not in held:
                    held.update([next(stream)])
                yield item.reference, held.pop(item.row)


def _reference(found: Found, version: str, group: int, row: int, number: int) -> Reference:
    stem = found.name.rpartition(".")[0]
    member = f'{{"group":{group},"row":{row}}}'
    key = key_for(f"{stem}/{number}", f"{found.identity}\0{number}")
    return Reference(key, found.url, member, "", version)


def _planned(reference: Reference) -> _Planned:
    member = json.loads(reference.member)
    return _Planned(reference, member["group"], member["row"])


def _may_hold_images(kind: pa.DataType) -> bool:
    if pat.is_struct(kind):
        return any(
            (field.name == "bytes" and is_bytes(field.type)) or (field.name == "path" and is_text(field.type))
            for field in kind
        )
    return is_bytes(kind) or is_text(kind)


def _values_of(batch: pa.RecordBatch) -> dict[str, list[Any]]:
    """Values by column; a `Reject` stands for a cell that cannot be read."""
    found = {}
    for name, cells in zip(batch.schema.names, batch.columns, strict=True):
        try:
            found[name] = cells.to_pylist()
        except (ValueError, ImportError, pa.ArrowException):
            found[name] = [_cell(cells, row) for row in range(len(cells))]
    return found


def _fields_in(columns: Mapping[str, list[Any]], row: int) -> Mapping[str, object] | Reject:
    fields = {name: cells[row] for name, cells in columns.items()}
    if any(isinstance(value, Reject) for value in fields.values()):
        return Reject("bad_metadata", "a cell that a filter looks at cannot be read")
    return fields


def _rows_of(
    rows: ParquetRows, group: int, columns: Mapping[str, str], wanted: set[int]
) -> Iterator[tuple[int, Row]]:
    """The wanted rows of a row group, rising; nothing is read beyond the last of them."""
    first, last = 0, max(wanted)
    for batch in rows.batches(group, sorted(set(columns.values())), _ROWS_WITH_IMAGES):
        for row in range(first, first + len(batch)):
            if row in wanted:
                yield row, {part: _cell(batch.column(name), row - first) for part, name in columns.items()}
        first += len(batch)
        if first > last:
            return
    raise SourceError(f"{rows.url}: row group {group} has no row {last}; plan again into a new output")


def _cell(cells: pa.Array, row: int) -> Any:
    try:
        return value(cells, row)
    except Reject as why:
        return why


def _raw(reader: Cells, url: str, item: tuple[Reference, Row]) -> tuple[Reference, Raw | Reject]:
    reference, cells = item
    try:
        image = reader.bytes_in(cells["image"], url)
        if image is None:
            raise Reject("no_image", "the cell of the image is null or empty")
        mask = reader.bytes_in(cells.get("mask"), url)
        caption = cells.get("caption") or ""
        if isinstance(caption, Reject):
            raise Reject("bad_caption", caption.detail)
    except Reject as why:
        return reference, why
    return reference, Raw(image, mask, caption.strip())
