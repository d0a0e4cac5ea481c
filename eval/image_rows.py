"""One row for every evaluated image: first with the counts at all thresholds, at the end with the measures at one."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from actors.redaction import redact
from eval.labelled import LabelledSample
from eval.metrics.masks import f1_of, iou_of, precision_of, recall_of
from eval.streaming import Counted

_IDENTITY = [
    ("number", pa.int64()),
    ("key", pa.string()),
    ("where", pa.string()),
    ("caption", pa.string()),
    ("width", pa.int32()),
    ("height", pa.int32()),
    ("pixels", pa.int64()),
    ("truth_pixels", pa.int64()),
    ("score", pa.float64()),
    ("artifact_score", pa.float64()),
]
_COUNTS = [("hits", pa.list_(pa.int64())), ("extra", pa.list_(pa.int64()))]
COUNTED = pa.schema([*_IDENTITY, *_COUNTS])
"""Of the rows while they are collected: true and false positives are lists over the ascending thresholds."""

ROWS = pa.schema(
    [
        *_IDENTITY,
        ("true_positives", pa.int64()),
        ("false_positives", pa.int64()),
        ("false_negatives", pa.int64()),
        ("marked_area", pa.float64()),
        ("truth_area", pa.float64()),
        ("iou", pa.float64()),
        ("f1", pa.float64()),
        ("precision", pa.float64()),
        ("recall", pa.float64()),
    ]
)
"""Of `images.parquet`. `pixels` are those that count; `score` is their mean score, null where there are none. Areas are
shares of them. The measures follow `eval.metrics.masks`: 1 where truth and prediction are both empty."""

_GROUP = 1 << 14
"""Rows that are written together."""


def counted_row(number: int, sample: LabelledSample, counted: Counted) -> dict[str, object]:
    """The row of an image, in the schema `COUNTED`."""
    counts = counted.counts
    return {
        "number": number,
        "key": _storable(sample.key),
        "where": _storable(redact(sample.where)),
        "caption": _storable(sample.caption),
        "width": sample.image.shape[1],
        "height": sample.image.shape[0],
        "pixels": counted.pixels,
        "truth_pixels": int(counts[0, 0] + counts[0, 2]),
        "score": None if math.isnan(counted.score) else counted.score,
        "artifact_score": sample.artifact_score,
        "hits": counts[:, 0].tolist(),
        "extra": counts[:, 1].tolist(),
    }


def _storable(text: str) -> str:
    """Names in tars and JSON can hold lone surrogates, which Parquet cannot; they are written as Python escapes."""
    return text.encode("utf-8", "backslashreplace").decode()


class RowSpool:
    """Rows of images on this machine's disk, until the threshold is known; a context manager, which removes them."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="flawforge-eval-")
        self._path = Path(self._folder.name) / "counted.parquet"
        self._writer = pq.ParquetWriter(self._path, COUNTED)
        self._waiting: list[dict[str, object]] = []

    def __enter__(self) -> RowSpool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close()
        self._folder.cleanup()

    def add(self, rows: Sequence[dict[str, object]]) -> None:
        """Append rows in the schema `COUNTED`."""
        self._waiting += rows
        if len(self._waiting) >= _GROUP:
            self._flush()

    def finished(self, place: int) -> Iterator[pa.Table]:
        """Tables in the schema `ROWS`, at the threshold with this place; nothing may be added after it."""
        self._flush()
        self._writer.close()
        with pq.ParquetFile(self._path) as file:
            for group in range(file.num_row_groups):
                yield _finished(file.read_row_group(group), place)

    def _flush(self) -> None:
        if self._waiting:
            self._writer.write_table(pa.Table.from_pylist(self._waiting, COUNTED))
            self._waiting = []


def rows_file(tables: Iterator[pa.Table], path: Path) -> None:
    """Writes `images.parquet` to a file of this machine."""
    with pq.ParquetWriter(path, ROWS, compression="zstd") as writer:
        for table in tables:
            writer.write_table(table)


def _finished(table: pa.Table, place: int) -> pa.Table:
    hits, extra = (_at(table[name], place) for name in ("hits", "extra"))
    pixels, truth = (table[name].to_numpy() for name in ("pixels", "truth_pixels"))
    counts = np.stack([hits, extra, truth - hits], axis=1)
    whole = np.maximum(pixels, 1)
    more = {
        "true_positives": hits,
        "false_positives": extra,
        "false_negatives": truth - hits,
        "marked_area": (hits + extra) / whole,
        "truth_area": truth / whole,
        "iou": iou_of(counts),
        "f1": f1_of(counts),
        "precision": precision_of(counts),
        "recall": recall_of(counts),
    }
    columns = {name: table[name] for name, _ in _IDENTITY} | {
        name: pa.array(values) for name, values in more.items()
    }
    return pa.table(columns, schema=ROWS)


def _at(column: pa.ChunkedArray, place: int) -> NDArray[np.int64]:
    values: NDArray[np.int64] = np.array([row[place] for row in column.to_pylist()], np.int64)
    return values
