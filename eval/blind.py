"""Predictions that do not look for artifacts: everything, and every pixel of every object."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eval.image_columns import measures
from eval.image_counts import ROWS, ImageCounts
from eval.metrics import Interval
from eval.metrics.bootstrap import Values, ratio

EVERYTHING, ALL_OBJECTS = "blind: everything", "blind: all objects"
_NAMES = (EVERYTHING, ALL_OBJECTS)


@dataclass(frozen=True)
class BlindFigures:
    """What a blind prediction is worth.

    Attributes:
        iou_fg: pooled.
        average_precision: over pixels, of the score 1 where it predicts and 0 elsewhere.
        clean_area: share of the pixels of clean images that is predicted; None without clean images.
    """

    iou_fg: Interval
    average_precision: Interval
    clean_area: Interval | None


class BlindBaselines:
    """Counts of the blind predictions of the images that are added.

    Args:
        rows, seed: see `eval.image_counts.ImageCounts`.
    """

    def __init__(self, *, rows: int = ROWS, seed: int = 0) -> None:
        self.without_objects = 0
        self._counts = ImageCounts(len(_NAMES), rows=rows, seed=seed)

    def add(
        self,
        number: int,
        truth: NDArray[np.bool_],
        counted: NDArray[np.bool_],
        objects: NDArray[np.uint8] | None,
    ) -> None:
        """Add an image.

        Args:
            number: unique in the set.
            truth: bool [H, W], within `counted`.
            counted: bool [H, W], pixels that are not ignored.
            objects: [H, W], from 1 on where an object is; None where they are not known.
        """
        self.without_objects += objects is None
        inside = counted if objects is None else counted & (objects > 0)
        rows = []
        for predicted in (counted, inside):
            hits = np.count_nonzero(truth & predicted)
            rows.append([hits, np.count_nonzero(predicted) - hits, np.count_nonzero(truth) - hits])
        self._counts.add(number, np.array(rows, np.int64), int(np.count_nonzero(counted)))

    def merge(self, other: BlindBaselines) -> None:
        """Add another worker's images of the same set."""
        self.without_objects += other.without_objects
        self._counts.merge(other._counts)

    def figures(self) -> dict[str, BlindFigures]:
        """By name; all objects only where every image has labels of its objects."""
        names = _NAMES[:1] if self.without_objects else _NAMES
        return {name: self._figures(place) for place, name in enumerate(names)}

    def _figures(self, place: int) -> BlindFigures:
        resample = self._counts.resample(place)
        found = measures(resample)
        return BlindFigures(
            found.iou_fg, resample(_average_precision), found.clean.area if found.clean else None
        )


def _average_precision(sums: Values) -> Values:
    """Of sums of columns: all that is predicted enters first, the rest together after it."""
    hits, extra, missed, pixels = (sums[..., place] for place in range(4))
    recall = ratio(hits, hits + missed)
    precision = hits / np.maximum(hits + extra, 1)
    return recall * precision + (1 - recall) * ratio(hits + missed, pixels)
