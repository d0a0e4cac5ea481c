"""What a mask is worth against the truth: pooled measures with bootstrap intervals over images.

Pixels are counted once per image; every measure is a ratio of sums of these counts, so that 2,000 resamples of
the images are one matrix product. A ratio whose denominator is 0 is 1 where truth and prediction are both empty
in all images that are counted, and else 0.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from actors.errors import EvaluationError

RESAMPLES = 2000
CONFIDENCE = 0.95
LEVELS = 1024
"""To which scores are quantised for average precision."""

_AT_ONCE = 200
"""Resamples whose weights are held at a time."""

Masks = NDArray[np.bool_]
Counts = NDArray[np.int64]
Values = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """A figure and its 95 % percentile bootstrap interval over images."""

    value: float
    low: float
    high: float


def counts(truth: Masks, predicted: Masks) -> Counts:
    """True positive, false positive and false negative pixels per image: int64 [N, 3] of two bool [N, H, W].

    Raises:
        EvaluationError: no images, or shapes that differ.
    """
    if truth.shape != predicted.shape or truth.ndim != 3 or len(truth) == 0:
        raise EvaluationError(
            f"truth {truth.shape} and prediction {predicted.shape} must be masks [N, H, W] of one shape, N >= 1"
        )
    assert truth.dtype == predicted.dtype == np.bool_
    hits = np.count_nonzero(truth & predicted, axis=(1, 2))
    extra = np.count_nonzero(predicted, axis=(1, 2)) - hits
    missed = np.count_nonzero(truth, axis=(1, 2)) - hits
    return np.stack([hits, extra, missed], axis=1).astype(np.int64)


def pooled_iou(table: Counts) -> float:
    """IoU of the artifact class, sum TP / sum (TP + FP + FN), without its interval."""
    return float(_iou(_sums(table))[0])


def iou_fg(table: Counts, *, seed: int = 0, resamples: int = RESAMPLES) -> Interval:
    """IoU of the artifact class, sum TP / sum (TP + FP + FN) over all images. The paper's number."""
    return _bootstrap(table, _iou, seed, resamples)


def iou_per_image(table: Counts, *, seed: int = 0, resamples: int = RESAMPLES) -> Interval:
    """Mean over images of each one's IoU; 1 for an image whose truth and prediction are both empty."""
    each = _iou(table.astype(np.float64))[:, None]
    return _bootstrap(each, lambda sums: sums[:, 0] / len(each), seed, resamples)


def miou_2class(
    table: Counts, pixels: int | NDArray[np.int64], *, seed: int = 0, resamples: int = RESAMPLES
) -> Interval:
    """Mean of the pooled IoUs of artifact and background.

    Args:
        pixels: that count in an image: height times width, or int64 [N] where some are ignored.
    """
    whole = np.column_stack([table, np.broadcast_to(pixels, len(table))])

    def measure(sums: Values) -> Values:
        counted = sums[:, :3]
        background = sums[:, 3] - counted.sum(axis=1)
        return (_iou(counted) + _iou(np.column_stack([background, counted[:, 1:]]))) / 2

    return _bootstrap(whole, measure, seed, resamples)


def f1(table: Counts, *, seed: int = 0, resamples: int = RESAMPLES) -> Interval:
    """Pooled 2 TP / (2 TP + FP + FN)."""
    return _bootstrap(
        table, lambda sums: _ratio(2 * sums[:, 0], sums.sum(axis=1) + sums[:, 0], sums), seed, resamples
    )


def precision(table: Counts, *, seed: int = 0, resamples: int = RESAMPLES) -> Interval:
    """Pooled TP / (TP + FP): the share of what is predicted that is true."""
    return _bootstrap(table, lambda sums: _ratio(sums[:, 0], sums[:, 0] + sums[:, 1], sums), seed, resamples)


def recall(table: Counts, *, seed: int = 0, resamples: int = RESAMPLES) -> Interval:
    """Pooled TP / (TP + FN): the share of what is true that is predicted."""
    return _bootstrap(table, lambda sums: _ratio(sums[:, 0], sums[:, 0] + sums[:, 2], sums), seed, resamples)


def difference(first: Counts, second: Counts, *, seed: int = 0, resamples: int = RESAMPLES) -> Interval:
    """Pooled IoU_fg of the first minus that of the second, paired: both use the same resampled images.

    Two detectors find the same images hard, so this interval is far narrower than theirs suggest.

    Raises:
        EvaluationError: tables of unequal numbers of images.
    """
    if first.shape != second.shape:
        raise EvaluationError(
            f"a paired difference needs the same images twice: there are {len(first)} and {len(second)}"
        )
    both = np.concatenate([first, second], axis=1)
    return _bootstrap(both, lambda sums: _iou(sums[:, :3]) - _iou(sums[:, 3:]), seed, resamples)


def average_precision(truth: Masks, scores: NDArray[np.floating]) -> float:
    """Area under the steps of the precision-recall curve of all pixels: sum (R_i - R_(i-1)) P_i.

    Exact on scores rounded to `LEVELS` levels, which is what lets it scale: pixels of one level enter together.

    Args:
        truth: bool, any shape.
        scores: 0 to 1, of the same shape.

    Returns:
        0 to 1; nan where the truth holds no positive pixel at all.
    """
    return average_precision_of(*score_histograms(truth, scores))


def score_histograms(truth: Masks, scores: NDArray[np.floating]) -> tuple[Counts, Counts]:
    """How many pixels, and how many positive ones, have each of the `LEVELS` levels: two int64 [LEVELS].

    Histograms of parts of a set add up to those of the whole.

    Args:
        truth: bool, any shape.
        scores: 0 to 1, of the same shape.
    """
    assert truth.shape == scores.shape
    levels = np.rint(scores * (LEVELS - 1)).astype(np.int64)
    return np.bincount(levels.ravel(), minlength=LEVELS), np.bincount(levels[truth], minlength=LEVELS)


def average_precision_of(everything: Counts, positive: Counts) -> float:
    """`average_precision` of the histograms of all pixels and of the positive ones; see `score_histograms`."""
    everything, positive = everything[::-1], positive[::-1]
    taken, hits = everything.cumsum(), positive.cumsum()
    if hits[-1] == 0:
        return float("nan")
    return float((positive * (hits / np.maximum(taken, 1))).sum() / hits[-1])


def agreement(marks: Masks) -> float:
    """How far people agree: the mean IoU over images and pairs of people; 1 for a pair that both marked nothing.

    Args:
        marks: bool [N, P, H, W], what each of P people marked.

    Raises:
        EvaluationError: no images, or fewer than two people.
    """
    if marks.ndim != 4 or len(marks) == 0 or marks.shape[1] < 2:
        raise EvaluationError(f"agreement needs marks [N, P, H, W] of two people at least, not {marks.shape}")
    pairs = combinations(range(marks.shape[1]), 2)
    return float(
        np.mean([_iou(counts(marks[:, one], marks[:, two]).astype(np.float64)) for one, two in pairs])
    )


def _sums(table: Counts) -> Values:
    sums: Values = table.sum(axis=0, dtype=np.float64)[None]
    return sums


def _iou(sums: Values) -> Values:
    return _ratio(sums[:, 0], sums.sum(axis=1), sums)


def _ratio(part: Values, whole: Values, sums: Values) -> Values:
    """`part / whole` [R], by the module's rule where `whole` is 0; `sums` [R, 3] state whether all is empty."""
    empty = (sums.sum(axis=1) == 0).astype(np.float64)
    ratio: Values = np.divide(part, whole, out=empty, where=whole > 0)
    return ratio


def _bootstrap(
    table: NDArray[np.int64] | Values, measure: Callable[[Values], Values], seed: int, resamples: int
) -> Interval:
    """A measure of the column sums, and its percentiles over images drawn with replacement.

    Args:
        table: [N, C], a row per image.
        measure: gives [R] for sums [R, C].
    """
    rng = np.random.default_rng(seed)
    images, rows = len(table), table.astype(np.float64)
    even = np.full(images, 1 / images)
    blocks = []
    for first in range(0, resamples, _AT_ONCE):
        weights = rng.multinomial(images, even, size=min(_AT_ONCE, resamples - first))
        blocks.append(measure(weights.astype(np.float64) @ rows))
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(np.concatenate(blocks), [tail, 1 - tail])
    return Interval(float(measure(rows.sum(axis=0)[None])[0]), float(low), float(high))
