"""Scores against true masks: every measure at a threshold, the curve over thresholds, and chance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from actors.errors import EvaluationError
from eval import metrics
from eval.image_columns import Measures, Resample, image_columns, measures
from eval.metrics import Interval, Masks, iou_of
from eval.metrics.bootstrap import interval_of, resampled
from eval.metrics.levels import check_scores
from eval.metrics.sweep import counts_at_thresholds, reached, reached_histogram

CANDIDATES = tuple(round(step * 0.02, 2) for step in range(1, 50))
"""Thresholds that are tried: 0.02 to 0.98."""

DRAWS = 100

Scores = NDArray[np.floating]


@dataclass(frozen=True)
class Evaluation(Measures):
    """What predicted regions are worth at one threshold; intervals are over images.

    Attributes:
        average_precision: over all pixels and thresholds; nan where the truth is empty everywhere.
        threshold: score from which a pixel is predicted.
        images: their number.
    """

    average_precision: float
    threshold: float
    images: int


def evaluate(
    truth: Masks, scores: Scores, threshold: float, *, seed: int = 0, ignored: Masks | None = None
) -> Evaluation:
    """All measures at a threshold, which must have been chosen on other images than these.

    Args:
        truth: bool [N, H, W].
        scores: 0 to 1, [N, H, W].
        threshold: a pixel is predicted where its score is at least this.
        seed: of the bootstrap.
        ignored: bool [N, H, W]; these pixels count nowhere. None counts all.

    Raises:
        EvaluationError: shapes that differ, no images, scores that are not numbers from 0 to 1.
    """
    _check(truth, scores)
    counted = np.ones(truth.shape, np.bool_) if ignored is None else ~ignored
    predicted = (scores >= threshold) & counted
    table = metrics.counts(truth & counted, predicted)
    resample = resampled(image_columns(table, np.count_nonzero(counted, axis=(1, 2))), seed)
    average_precision = metrics.average_precision(truth[counted], scores[counted])
    return evaluation_of(resample, threshold, average_precision, len(truth))


def evaluation_of(resample: Resample, threshold: float, average_precision: float, images: int) -> Evaluation:
    """The measures of an evaluation whose pixels are already counted.

    Args:
        resample: gives their intervals.
        threshold: at which they were counted.
        average_precision: of all pixels.
        images: their number.
    """
    return Evaluation(
        **vars(measures(resample)), threshold=threshold, average_precision=average_precision, images=images
    )


def threshold_curve(
    truth: Masks, scores: Scores, candidates: Sequence[float] = CANDIDATES
) -> list[tuple[float, float]]:
    """Threshold and pooled IoU_fg, in the order of the candidates.

    Raises:
        EvaluationError: see `evaluate`.
    """
    _check(truth, scores)
    ordered = sorted(candidates)
    every = np.ones(truth.shape, np.bool_)
    table = reached_histogram(reached(scores, ordered), truth, every, len(ordered))
    found = iou_of(counts_at_thresholds(table))
    return [(threshold, float(found[ordered.index(threshold)])) for threshold in candidates]


def best_threshold(truth: Masks, scores: Scores, candidates: Sequence[float] = CANDIDATES) -> float:
    """The candidate with the largest pooled IoU_fg, the first of equals. Only for the validation split.

    Raises:
        EvaluationError: see `evaluate`; no candidates.
    """
    if len(candidates) == 0:
        raise EvaluationError("there is no threshold to choose from")
    return max(threshold_curve(truth, scores, candidates), key=lambda point: point[1])[0]


def random_iou(
    truth: Masks,
    predicted: Masks,
    *,
    seed: int = 0,
    draws: int = DRAWS,
    swap: bool = True,
    shift: bool = True,
    ignored: Masks | None = None,
) -> Interval:
    """IoU_fg of the same regions chosen blindly: what a prediction must beat to know anything of its image.

    Each draw gives every image the prediction of another one and moves it by a random cyclic shift, so that
    number, area and form of the regions stay as they are.

    Args:
        truth, predicted: bool [N, H, W].
        seed: of the draws.
        draws: their number.
        swap: False keeps each prediction at its own image, and so how much is predicted where.
        shift: False keeps each prediction at its own place, and so a habit such as choosing the centre.
        ignored: bool [N, H, W]; these pixels count nowhere, whatever is moved there. None counts all.

    Returns:
        Mean over the draws, and the range that holds 95 % of them.

    Raises:
        EvaluationError: shapes that differ, or no images.
    """
    metrics.counts(truth, predicted)  # checks the shapes
    counted = np.ones(truth.shape, np.bool_) if ignored is None else ~ignored
    whole = Regions(truth & counted, predicted, counted)
    return pooled_random_iou([whole], seed=seed, draws=draws, swap=swap, shift=shift)


@dataclass(frozen=True)
class Regions:
    """Images of one size; each field is bool [N, H, W], or N of bool [H, W].

    Attributes:
        truth: within `counted`.
        predicted: may reach beyond it.
        counted: pixels that are not ignored.
    """

    truth: Sequence[Masks] | Masks
    predicted: Sequence[Masks] | Masks
    counted: Sequence[Masks] | Masks


def pooled_random_iou(
    groups: Sequence[Regions], *, seed: int = 0, draws: int = DRAWS, swap: bool = True, shift: bool = True
) -> Interval:
    """`random_iou` of images of several sizes: predictions are exchanged within each size.

    An image whose size no other one has keeps its own prediction, which is only moved.
    """
    rng = np.random.default_rng(seed)
    values = []
    for _ in range(draws):
        counted = np.sum([_random_counts(group, rng, swap, shift) for group in groups], axis=0)
        hits, union = int(counted[0]), int(counted[1])
        values.append(hits / union if union else 1.0)
    return interval_of(float(np.mean(values)), np.array(values))


def _random_counts(group: Regions, rng: np.random.Generator, swap: bool, shift: bool) -> tuple[int, int]:
    """Pixels in both and in either, of the truth and of what one draw predicts."""
    images, size = len(group.truth), group.truth[0].shape
    order = _other_images(rng, images) if swap else np.arange(images)
    moves = rng.integers(0, size, (images, 2)) if shift else np.zeros((images, 2), np.int64)
    hits = union = 0
    for number, (other, (down, across)) in enumerate(zip(order, moves, strict=True)):
        moved = np.roll(group.predicted[other], (int(down), int(across)), axis=(0, 1)) & group.counted[number]
        both = int(np.count_nonzero(group.truth[number] & moved))
        hits += both
        union += int(np.count_nonzero(group.truth[number])) + int(np.count_nonzero(moved)) - both
    return hits, union


def _other_images(rng: np.random.Generator, images: int) -> NDArray[np.int64]:
    """A random circle through all images: everyone gets another one's, as far as there is another."""
    circle = rng.permutation(images)
    others = np.empty(images, np.int64)
    others[circle] = np.roll(circle, 1)
    return others


def _check(truth: Masks, scores: Scores) -> None:
    if truth.shape != scores.shape or truth.ndim != 3 or len(truth) == 0:
        raise EvaluationError(
            f"truth {truth.shape} and scores {scores.shape} must be [N, H, W] of one shape, N >= 1"
        )
    check_scores(truth.shape, scores, where="the images")
