"""What a mask is worth against the truth: measures of pixel counts, pooled and per image, with their intervals.

Pixels are counted once per image; every measure is a ratio of sums of these counts, so that 2,000 resamples of
the images are one matrix product. A ratio whose denominator is 0 is 1 where truth and prediction are both empty
in all images that are counted, and else 0. The same measures serve regions, see `eval.metrics.components`.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from actors.errors import EvaluationError
from eval.metrics.bootstrap import RESAMPLES, Interval, Values, bootstrap

Masks = NDArray[np.bool_]
Counts = NDArray[np.int64]
Sums = NDArray[np.int64] | NDArray[np.float64]
"""True positives, false positives and false negatives, [..., 3]."""


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


def iou_of(sums: Sums) -> Values:
    """IoU of counts, TP / (TP + FP + FN): [...] of [..., 3]."""
    return _ratio(sums[..., 0], sums.sum(axis=-1), sums)


def f1_of(sums: Sums) -> Values:
    """F1 of counts, 2 TP / (2 TP + FP + FN): [...] of [..., 3]."""
    return _ratio(2 * sums[..., 0], sums.sum(axis=-1) + sums[..., 0], sums)


def precision_of(sums: Sums) -> Values:
    """Precision of counts, TP / (TP + FP), the share of what is predicted that is true: [...] of [..., 3]."""
    return _ratio(sums[..., 0], sums[..., 0] + sums[..., 1], sums)


def recall_of(sums: Sums) -> Values:
    """Recall of counts, TP / (TP + FN), the share of what is true that is predicted: [...] of [..., 3]."""
    return _ratio(sums[..., 0], sums[..., 0] + sums[..., 2], sums)


def miou_of(sums: Sums) -> Values:
    """Mean of the IoUs of artifact and background: [...] of [..., 4], the last column being all pixels that count."""
    counted = sums[..., :3]
    background = sums[..., 3] - counted.sum(axis=-1)
    both = np.concatenate([background[..., None], counted[..., 1:]], axis=-1)
    return (iou_of(counted) + iou_of(both)) / 2


def pooled_iou(table: Counts) -> float:
    """IoU of the artifact class, sum TP / sum (TP + FP + FN), without its interval."""
    return float(iou_of(table.sum(axis=0)))


def iou_fg(table: Counts, *, seed: int = 0, resamples: int = RESAMPLES) -> Interval:
    """IoU of the artifact class, sum TP / sum (TP + FP + FN) over all images. The paper's number."""
    return bootstrap(table, iou_of, seed, resamples)


def f1(table: Counts, *, seed: int = 0, resamples: int = RESAMPLES) -> Interval:
    """Pooled 2 TP / (2 TP + FP + FN)."""
    return bootstrap(table, f1_of, seed, resamples)


def precision(table: Counts, *, seed: int = 0, resamples: int = RESAMPLES) -> Interval:
    """Pooled TP / (TP + FP): the share of what is predicted that is true."""
    return bootstrap(table, precision_of, seed, resamples)


def recall(table: Counts, *, seed: int = 0, resamples: int = RESAMPLES) -> Interval:
    """Pooled TP / (TP + FN): the share of what is true that is predicted."""
    return bootstrap(table, recall_of, seed, resamples)


def miou_2class(
    table: Counts, pixels: int | NDArray[np.int64], *, seed: int = 0, resamples: int = RESAMPLES
) -> Interval:
    """Mean of the pooled IoUs of artifact and background.

    Args:
        table: of `counts`.
        pixels: that count in an image: height times width, or int64 [N] where some are ignored.
        seed, resamples: of the interval.
    """
    whole = np.column_stack([table, np.broadcast_to(pixels, len(table))])
    return bootstrap(whole, miou_of, seed, resamples)


def iou_per_image(table: Counts, *, seed: int = 0, resamples: int = RESAMPLES) -> Interval:
    """Mean over images of each one's IoU; 1 for an image whose truth and prediction are both empty."""
    return mean_per_image(table, iou_of, seed=seed, resamples=resamples)


def mean_per_image(
    table: Counts, measure: Callable[[Sums], Values], *, seed: int = 0, resamples: int = RESAMPLES
) -> Interval:
    """Mean over images of `iou_of`, `f1_of`, `precision_of` or `recall_of` of each, by the module's rule."""
    each = measure(table)[:, None]
    return bootstrap(each, lambda sums: sums[:, 0] / len(each), seed, resamples)


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
    return float(np.mean([iou_of(counts(marks[:, one], marks[:, two])) for one, two in pairs]))


def _ratio(part: Sums, whole: Sums, sums: Sums) -> Values:
    """`part / whole` [...], by the module's rule where `whole` is 0; `sums` [..., 3] state whether all is empty."""
    empty = np.asarray(sums.sum(axis=-1) == 0, np.float64)
    divided: Values = np.divide(part, whole, out=empty, where=whole > 0)
    return divided
