"""Which images a report shows, and how recall depends on the size of the true artifact; from the rows of images."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from eval.image_rows import ROWS

SHOWN = 8
"""Images of each section."""

EDGES = (0.02, 0.05, 0.1, 0.2)
"""Of the shares of an image that are truly an artifact, by which images are grouped."""

Row = dict[str, Any]
_Order = Callable[[Row], tuple[float, ...] | None]
"""What is shown first has the largest value; None leaves an image out."""


def _worst(row: Row) -> tuple[float, ...] | None:
    return (-row["iou"], row["truth_area"]) if row["truth_pixels"] else None


def _best(row: Row) -> tuple[float, ...] | None:
    return (row["iou"], row["truth_area"]) if row["truth_pixels"] and row["iou"] > 0 else None


def _missed(row: Row) -> tuple[float, ...] | None:
    return (row["false_negatives"] / row["pixels"],) if row["false_negatives"] else None


def _wrong(row: Row) -> tuple[float, ...] | None:
    return (
        (row["false_positives"] / row["pixels"],) if row["truth_pixels"] and row["false_positives"] else None
    )


def _clean(row: Row) -> tuple[float, ...] | None:
    return (row["marked_area"],) if not row["truth_pixels"] and row["false_positives"] else None


@dataclass(frozen=True)
class Section:
    """A group of images of the page.

    Attributes:
        name: its anchor.
        title: its heading.
        text: how they were chosen.
        nothing: what the page states where there is no such image.
    """

    name: str
    title: str
    text: str
    nothing: str


SECTIONS: tuple[tuple[Section, _Order], ...] = (
    (
        Section(
            "clean",
            "Clean images with false alarms",
            "Their truth is empty, so that every mark is wrong. Most marked area first.",
            "No image with an empty truth is marked.",
        ),
        _clean,
    ),
    (
        Section(
            "wrong",
            "Most area marked wrongly",
            "Images with an artifact, the largest area outside of it first.",
            "No pixel outside of the artifacts is marked.",
        ),
        _wrong,
    ),
    (
        Section(
            "missed",
            "Most area missed",
            "The largest area of the artifact that is not marked first.",
            "No artifact pixel is missed.",
        ),
        _missed,
    ),
    (
        Section(
            "worst",
            "Lowest IoU",
            "Images with an artifact, the lowest IoU first; of equal ones, the largest artifact first.",
            "No image has an artifact.",
        ),
        _worst,
    ),
    (
        Section(
            "best",
            "Highest IoU",
            "What this detector finds well.",
            "No artifact is found in any image.",
        ),
        _best,
    ),
)


@dataclass(frozen=True)
class SizeGroup:
    """Images whose artifact has a size within a range.

    Attributes:
        low, high: share of the image, the low end excluded.
        images: their number.
        hits, extra, missed: true positive, false positive and false negative pixels.
        found_nothing: images in which no artifact pixel is marked.
    """

    low: float
    high: float
    images: int
    hits: int
    extra: int
    missed: int
    found_nothing: int


class Showcase:
    """Collects both while tables of rows pass by.

    Args:
        most: images of each section.
    """

    def __init__(self, most: int = SHOWN) -> None:
        self.most = most
        self._chosen: dict[str, list[tuple[tuple[float, ...], int, Row]]] = {
            one.name: [] for one, _ in SECTIONS
        }
        self._sizes = np.zeros((len(EDGES) + 1, 5), np.int64)

    def add(self, table: pa.Table) -> pa.Table:
        """Take rows in the schema `eval.image_rows.ROWS` into account; the same table is returned."""
        assert table.schema == ROWS
        rows = table.to_pylist()
        for section, order in SECTIONS:
            found = [(key, -row["number"], row) for row in rows if (key := order(row)) is not None]
            candidates = self._chosen[section.name] + found
            # Numbers are unique: rows are never compared.
            self._chosen[section.name] = heapq.nlargest(self.most, candidates)
        self._count_sizes(table)
        return table

    def rows(self, section: str) -> list[Row]:
        """The rows to show in a section, in their order."""
        return [row for *_, row in self._chosen[section]]

    @property
    def sizes(self) -> list[SizeGroup]:
        """Groups by ascending size, also empty ones."""
        ends = (0.0, *EDGES, 1.0)
        return [
            SizeGroup(ends[place], ends[place + 1], *map(int, counts))
            for place, counts in enumerate(self._sizes)
        ]

    def _count_sizes(self, table: pa.Table) -> None:
        columns = [
            table[name].to_numpy() for name in ("true_positives", "false_positives", "false_negatives")
        ]
        truth, area = table["truth_pixels"].to_numpy() > 0, table["truth_area"].to_numpy()
        counts = np.stack([np.ones(len(area), np.int64), *columns, columns[0] == 0], axis=1)[truth]
        np.add.at(self._sizes, np.searchsorted(EDGES, area[truth]), counts)
