"""Regions found and missed: connected components of truth and prediction, matched one to one.

A region is a component of neighbours, by corners too. Counts are those of `eval.metrics.masks`, of regions in place of
pixels, so that its measures apply: recall, precision, F1, each with its interval.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.csgraph import maximum_bipartite_matching

from actors.connected import connected
from eval.metrics.bootstrap import REPLICATES, Interval, ResampledSums
from eval.metrics.masks import Counts, Masks, f1_of, precision_of, recall_of

IOUS = (0.1, 0.3, 0.5)
"""From which a predicted region counts as a true one."""


def region_counts(
    truth: Masks, predicted: Masks, ious: Sequence[float] = IOUS, *, counted: Masks | None = None
) -> Counts:
    """Regions found, invented and missed in an image, at each IoU: int64 [len(ious), 3].

    As many pairs as possible are formed of a true and a predicted region whose IoU is at least the wanted one; each
    region is in at most one pair.

    Args:
        truth, predicted: bool [H, W].
        ious: above 0.
        counted: bool [H, W], pixels that are not ignored, outside which there are no regions; None counts all.
    """
    if counted is not None:
        truth, predicted = truth & counted, predicted & counted
    true_labels, true_count = connected(truth)
    labels, count = connected(predicted)
    rows, columns, overlaps = _overlaps(true_labels, labels, count)
    true_areas, areas = (np.bincount(one.ravel()) for one in (true_labels, labels))
    unions = true_areas[rows] + areas[columns] - overlaps
    shape = (true_count, count)
    found = [_pairs(rows, columns, overlaps / unions >= iou, shape) for iou in ious]
    return np.array([[hits, count - hits, true_count - hits] for hits in found], np.int64)


class RegionSums:
    """Recall, precision and F1 of regions over images, pooled; memory is fixed.

    Args:
        ious: see `region_counts`.
        seed, replicates: see `eval.metrics.bootstrap.ResampledSums`.
    """

    def __init__(self, ious: Sequence[float] = IOUS, *, seed: int = 0, replicates: int = REPLICATES) -> None:
        self.ious = tuple(ious)
        self._sums = ResampledSums(3 * len(self.ious), seed=seed, replicates=replicates)

    def add(self, number: int, found: Counts) -> None:
        """Add the `region_counts` of an image; `number` as for `ResampledSums.add`."""
        self._sums.add(number, found.ravel())

    def merge(self, other: RegionSums) -> None:
        """Add what another worker has of other images; raises EvaluationError for another seed."""
        self._sums.merge(other._sums)

    def counts(self, iou: float) -> Counts:
        """Regions found, invented and missed in all images, int64 [3]."""
        every: Counts = self._sums.totals.astype(np.int64).reshape(-1, 3)
        found: Counts = every[self.ious.index(iou)]
        return found

    def recall(self, iou: float) -> Interval:
        """Share of the true regions that are found."""
        place = self.ious.index(iou)
        return self._sums.interval(lambda sums: recall_of(sums.reshape(-1, len(self.ious), 3)[:, place]))

    def precision(self, iou: float) -> Interval:
        """Share of the predicted regions that are true."""
        place = self.ious.index(iou)
        return self._sums.interval(lambda sums: precision_of(sums.reshape(-1, len(self.ious), 3)[:, place]))

    def f1(self, iou: float) -> Interval:
        """F1 of the regions."""
        place = self.ious.index(iou)
        return self._sums.interval(lambda sums: f1_of(sums.reshape(-1, len(self.ious), 3)[:, place]))


def _overlaps(
    first: NDArray[np.int32], second: NDArray[np.int32], count: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Labels of the regions that share pixels, and how many they share; `count` regions are in the second."""
    both = (first > 0) & (second > 0)
    codes, shared = np.unique(first[both].astype(np.int64) * (count + 1) + second[both], return_counts=True)
    rows, columns = np.divmod(codes, count + 1)
    return rows, columns, shared


def _pairs(
    rows: NDArray[np.int64], columns: NDArray[np.int64], close: NDArray[np.bool_], shape: tuple[int, int]
) -> int:
    if not close.any():
        return 0
    where = (rows[close] - 1, columns[close] - 1)
    graph = sparse.csr_array((np.ones(int(close.sum()), np.int8), where), shape=shape)
    return int(np.count_nonzero(maximum_bipartite_matching(graph, perm_type="column") >= 0))
