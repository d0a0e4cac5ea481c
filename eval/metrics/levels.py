"""Measures of scores that need no threshold: average precision, AUROC and calibration, from histograms of levels.

Scores are rounded to `LEVELS` levels, which is what lets them scale; the measures are exact on the rounded scores, and
scores of one level are tied. What is scored may be pixels, objects or images: see `ScoreSums`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from actors.errors import EvaluationError
from eval.metrics.bootstrap import REPLICATES, Interval, Measure, ResampledSums, Values, ratio

LEVELS = 1024
"""To which scores are rounded."""

CALIBRATION_BINS = 15
"""Of equal width, of the expected calibration error."""

Scores = NDArray[np.floating]
Truth = NDArray[np.bool_]
Histogram = NDArray[np.int64] | NDArray[np.float64]
"""How many negatives (row 0) and positives (row 1) have each level, [..., 2, LEVELS]."""

_VALUES = np.arange(LEVELS) / (LEVELS - 1)


def histogram(truth: Truth, scores: Scores) -> NDArray[np.int64]:
    """How many negatives and positives have each level: int64 [2, LEVELS]. Histograms of parts of a set add up.

    Args:
        truth: bool, any shape.
        scores: 0 to 1, of the same shape.
    """
    assert truth.shape == scores.shape
    levels = np.rint(scores * (LEVELS - 1)).astype(np.int64)
    cells = levels.ravel() + LEVELS * truth.ravel()
    return np.bincount(cells, minlength=2 * LEVELS).reshape(2, LEVELS)


def average_precision(truth: Truth, scores: Scores) -> float:
    """Area under the steps of the precision-recall curve: sum (R_i - R_(i-1)) P_i.

    Args:
        truth: bool, any shape.
        scores: 0 to 1, of the same shape.

    Returns:
        0 to 1; nan where the truth holds no positive at all.
    """
    return float(average_precision_of(histogram(truth, scores)))


def auroc(truth: Truth, scores: Scores) -> float:
    """Probability that a positive scores above a negative, ties counting half; nan without one of the classes.

    Args:
        truth: bool, any shape.
        scores: 0 to 1, of the same shape.
    """
    return float(auroc_of(histogram(truth, scores)))


def average_precision_of(table: Histogram) -> Values:
    """`average_precision` of histograms: [...] of [..., 2, LEVELS]."""
    descending = table[..., ::-1]
    positive = descending[..., 1, :]
    taken, hits = descending.sum(axis=-2).cumsum(axis=-1), positive.cumsum(axis=-1)
    return ratio((positive * (hits / np.maximum(taken, 1))).sum(axis=-1), hits[..., -1])


def auroc_of(table: Histogram) -> Values:
    """`auroc` of histograms: [...] of [..., 2, LEVELS]."""
    negative, positive = table[..., 0, :].astype(np.float64), table[..., 1, :].astype(np.float64)
    below = negative.cumsum(axis=-1) - negative / 2
    return ratio((positive * below).sum(axis=-1), positive.sum(axis=-1) * negative.sum(axis=-1))


def brier_of(table: Histogram) -> Values:
    """Mean squared difference of score and truth: [...] of histograms [..., 2, LEVELS]; nan where they are empty."""
    squared = table[..., 0, :] * _VALUES**2 + table[..., 1, :] * (1 - _VALUES) ** 2
    return ratio(squared.sum(axis=-1), table.sum(axis=(-2, -1), dtype=np.float64))


def calibration_error_of(table: Histogram, bins: int = CALIBRATION_BINS) -> Values:
    """Expected calibration error: the mean over all of |mean score - share of positives| in each one's bin.

    Bins are of equal width; a score on an edge belongs to the bin above it, 1 to the last.

    Args:
        table: histograms [..., 2, LEVELS].
        bins: their number.

    Returns:
        [...]; nan where a histogram is empty.
    """
    excess = table.sum(axis=-2) * _VALUES - table[..., 1, :]
    starts = -(-np.arange(bins) * (LEVELS - 1) // bins)  # in whole numbers: the first level of each bin
    gaps = np.abs(np.add.reduceat(excess, starts, axis=-1)).sum(axis=-1)
    return ratio(gaps, table.sum(axis=(-2, -1), dtype=np.float64))


class ScoreSums:
    """Threshold-free measures of scored pixels, objects or images, image after image; memory is fixed.

    Args:
        seed: of the intervals, over images whatever is scored.
        replicates: see `eval.metrics.bootstrap.ResampledSums`.
    """

    def __init__(self, *, seed: int = 0, replicates: int = REPLICATES) -> None:
        self._sums = ResampledSums(2 * LEVELS, seed=seed, replicates=replicates)

    @property
    def images(self) -> int:
        """How many were added."""
        return self._sums.images

    @property
    def table(self) -> NDArray[np.int64]:
        """The histogram of everything, int64 [2, LEVELS]."""
        return self._sums.totals.astype(np.int64).reshape(2, LEVELS)

    def add(self, number: int, truth: Truth, scores: Scores, *, where: str) -> None:
        """Add what is scored in an image.

        Args:
            number: of the image, see `ResampledSums.add`.
            truth: bool, any shape; of pixels that count, of objects, or of the image itself.
            scores: 0 to 1, of the same shape.
            where: the image, for messages.

        Raises:
            EvaluationError: shapes that differ, or scores that are not numbers from 0 to 1.
        """
        check_scores(truth.shape, scores, where=where)
        self.add_histogram(number, histogram(truth, scores))

    def add_histogram(self, number: int, table: NDArray[np.int64]) -> None:
        """Add an image whose `histogram` is already counted."""
        self._sums.add(number, table.ravel())

    def merge(self, other: ScoreSums) -> None:
        """Add what another worker has of other images of the same set; raises EvaluationError for another seed."""
        self._sums.merge(other._sums)

    def average_precision(self) -> Interval:
        """See `average_precision`."""
        return self._sums.interval(_of_rows(average_precision_of))

    def auroc(self) -> Interval:
        """See `auroc`."""
        return self._sums.interval(_of_rows(auroc_of))

    def brier(self) -> Interval:
        """See `brier_of`."""
        return self._sums.interval(_of_rows(brier_of))

    def calibration_error(self) -> Interval:
        """See `calibration_error_of`."""
        return self._sums.interval(_of_rows(calibration_error_of))

    def value(self, measure: Measure) -> float:
        """A measure of the histogram of everything, such as `auroc_of`."""
        return self._sums.value(_of_rows(measure))

    def replicates(self, measure: Measure) -> Values:
        """A measure of histograms in every resample, [R]; the same images of the same seed are resampled alike."""
        return self._sums.replicates(_of_rows(measure))


def check_scores(shape: tuple[int, ...], scores: Scores, *, where: str) -> None:
    """Raises EvaluationError for scores of another shape than the truth, or that are not numbers from 0 to 1."""
    if scores.shape != shape:
        raise EvaluationError(f"{where}: scores {scores.shape} and mask {shape} must have one shape")
    if not scores.size:
        return
    lowest, highest = float(scores.min()), float(scores.max())
    if not (lowest >= 0 and highest <= 1):  # nan is neither
        raise EvaluationError(f"{where}: scores must be numbers from 0 to 1; found {lowest:g} to {highest:g}")


def _of_rows(measure: Measure) -> Measure:
    return lambda sums: measure(sums.reshape(*sums.shape[:-1], 2, LEVELS))
