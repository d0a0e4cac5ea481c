"""Measures of a score per image or object that are exact in its ties: AUROC, average precision, rank correlation.

For more scores than fit into memory see `eval.metrics.levels`. Intervals resample images: objects of one image stay
together.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from actors.errors import EvaluationError
from eval.metrics.bootstrap import RESAMPLES, Interval, Values, interval_of, ratio, resample_weights

Truth = NDArray[np.bool_]
Scores = NDArray[np.floating] | NDArray[np.integer]
Numbers = NDArray[np.int64]


def auroc(
    truth: Truth,
    scores: Scores,
    images: Numbers | None = None,
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Interval:
    """Probability that a positive scores above a negative, ties counting half; nan without one of the classes.

    Args:
        truth: bool [N].
        scores: [N], in any range.
        images: int64 [N], the image of each, from 0 on; None where each is an image of its own.
        seed, resamples: of the interval.

    Raises:
        EvaluationError: shapes that differ, nothing to rank, or scores that are not finite.
    """
    _check(truth, scores)
    return _resampled(
        lambda weights: weighted_auroc(truth, scores, weights), images, len(truth), seed, resamples
    )


def average_precision(
    truth: Truth,
    scores: Scores,
    images: Numbers | None = None,
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Interval:
    """Area under the steps of the precision-recall curve, equal scores entering together; nan without positives.

    Args and raises: see `auroc`.
    """
    _check(truth, scores)

    def measure(weights: Values) -> Values:
        groups = _Groups(-np.asarray(scores, np.float64))
        hits, every = groups.sums(weights * truth), groups.sums(weights)
        taken = every.cumsum(axis=-1)
        precision = hits.cumsum(axis=-1) / np.where(taken > 0, taken, 1)
        return ratio((hits * precision).sum(axis=-1), hits.sum(axis=-1))

    return _resampled(measure, images, len(truth), seed, resamples)


def rank_correlation(first: Scores, second: Scores, *, seed: int = 0, resamples: int = RESAMPLES) -> Interval:
    """Spearman's rank correlation, equal values having their mean rank; nan where either is constant.

    For instance, of the predicted area of images with RichHF's `artifact_score`: that is higher for better images, so
    a good prediction has a negative correlation.

    Args:
        first, second: [N], a value per image.
        seed, resamples: of the interval.

    Raises:
        EvaluationError: see `auroc`.
    """
    _check(first, second)
    groups = [_Groups(np.asarray(one, np.float64)) for one in (first, second)]

    def measure(weights: Values) -> Values:
        total = weights.sum(axis=-1, keepdims=True)
        # The sum of all ranks, and so their mean, does not depend on ties.
        centred = [group.ranks(weights) - (total + 1) / 2 for group in groups]
        spread = [(weights * one**2).sum(axis=-1) for one in centred]
        return ratio((weights * centred[0] * centred[1]).sum(axis=-1), np.sqrt(spread[0] * spread[1]))

    return _resampled(measure, None, len(first), seed, resamples)


def weighted_auroc(truth: Truth, scores: Scores, weights: Values) -> Values:
    """AUROC [R] with the weights [R, N]; nan without one of the classes."""
    groups = _Groups(np.asarray(scores, np.float64))
    positive, negative = groups.sums(weights * truth), groups.sums(weights * ~truth)
    below = negative.cumsum(axis=-1) - negative / 2
    return ratio((positive * below).sum(axis=-1), positive.sum(axis=-1) * negative.sum(axis=-1))


class _Groups:
    """Groups of equal values, ascending."""

    def __init__(self, values: Values) -> None:
        self.order = np.argsort(values, kind="stable")
        ordered = values[self.order]
        self.starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
        self.group = np.empty(len(values), np.intp)
        sizes = np.diff(np.append(self.starts, len(values)))
        self.group[self.order] = np.repeat(np.arange(len(self.starts)), sizes)

    def sums(self, weights: Values) -> Values:
        """The weight of each group, [R, G] of [R, N]."""
        found: Values = np.add.reduceat(weights[:, self.order], self.starts, axis=-1)
        return found

    def ranks(self, weights: Values) -> Values:
        """The mean rank of each value among all, each repeated as often as its weight says: [R, N] of [R, N]."""
        every = self.sums(weights)
        mean: Values = every.cumsum(axis=-1) - every + (every + 1) / 2
        return mean[:, self.group]


def _resampled(
    measure: Callable[[Values], Values], images: Numbers | None, count: int, seed: int, resamples: int
) -> Interval:
    owners = np.arange(count) if images is None else images
    if owners.shape != (count,) or owners.min() < 0:
        raise EvaluationError(f"each of {count} scores needs the number of its image: found {owners.shape}")
    drawn = resample_weights(int(owners.max()) + 1, seed, resamples)
    replicates = np.concatenate([measure(weights[:, owners]) for weights in drawn])
    return interval_of(float(measure(np.ones((1, count)))[0]), replicates)


def _check(first: Truth | Scores, second: Scores) -> None:
    if first.shape != second.shape or first.ndim != 1 or not len(first):
        raise EvaluationError(f"found {first.shape} and {second.shape}; both must be [N] of one N, N >= 1")
    if not all(np.isfinite(one).all() for one in (first, second)):
        raise EvaluationError("scores must be finite numbers: leave out what has none")
