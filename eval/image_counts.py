"""Counts of images at several thresholds: of each image up to a bound, of more images as sums in Poisson resamples."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from actors.errors import EvaluationError
from eval.image_columns import COLUMNS, Resample, image_columns
from eval.metrics import Counts, ResampledSums
from eval.metrics.bootstrap import resampled

ROWS = 1 << 14
"""Images up to which the counts of each are kept, 24 bytes for a threshold."""


@dataclass(frozen=True)
class _Row:
    """Of an image: counts at every threshold, int64 [T, 3], and pixels that count."""

    counts: Counts
    pixels: int


class ImageCounts:
    """What `eval.image_columns` needs of every image, at several thresholds; parts of a set add up.

    Args:
        places: number of thresholds, or of other ways to predict.
        rows: images up to which the counts of each are kept. With them, intervals resample the rows; without, they
            are those of `eval.metrics.bootstrap.ResampledSums`.
        seed: of the intervals.
    """

    def __init__(self, places: int, *, rows: int = ROWS, seed: int = 0) -> None:
        self.places, self.seed = places, seed
        self._most_rows = rows
        self._rows: dict[int, _Row] | None = {}
        self._sums = ResampledSums(places * COLUMNS, seed=seed)

    @property
    def images(self) -> int:
        """How many were added."""
        return self._sums.images

    @property
    def totals(self) -> NDArray[np.float64]:
        """Sums of the columns over all images, [places, COLUMNS]."""
        return self._sums.totals.reshape(-1, COLUMNS)

    def add(self, number: int, table: Counts, pixels: int) -> None:
        """Add an image.

        Args:
            number: unique in the set.
            table: true positives, false positives and false negatives, [places, 3].
            pixels: that count.
        """
        assert self._rows is None or number not in self._rows
        self._sums.add(number, image_columns(table, np.full(len(table), pixels)).ravel())
        if self._rows is not None:
            self._rows[number] = _Row(table, pixels)
            self._bound_rows()

    def merge(self, other: ImageCounts) -> None:
        """Add another worker's images of the same set; raises EvaluationError for an image that both have."""
        if self._rows is None or other._rows is None:
            self._rows = None
        elif twice := self._rows.keys() & other._rows.keys():
            raise EvaluationError(f"two parts of an evaluation both have the image number {min(twice)}")
        else:
            self._rows |= other._rows
            self._bound_rows()
        self._sums.merge(other._sums)

    def resample(self, place: int) -> Resample:
        """Gives measures at one of the thresholds with their intervals."""
        if self._rows is None:
            return lambda measure: self._sums.interval(
                lambda sums: measure(sums.reshape(-1, self.places, COLUMNS)[:, place])
            )
        rows = [self._rows[number] for number in sorted(self._rows)]
        table = np.stack([row.counts[place] for row in rows])
        return resampled(image_columns(table, np.array([row.pixels for row in rows])), self.seed)

    def _bound_rows(self) -> None:
        if self._rows is not None and len(self._rows) > self._most_rows:
            self._rows = None
