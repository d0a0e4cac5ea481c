"""Does a detector tell broken objects from intact ones, and leave clean images alone?

Pooled IoU on images in which most objects are broken rewards marking objects; these measures do not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from actors.errors import EvaluationError
from eval.metrics.bootstrap import RESAMPLES, Interval
from eval.metrics.levels import Scores, check_scores
from eval.metrics.masks import Masks
from eval.metrics.ranking import auroc

BROKEN_SHARE = 0.3
"""Of an object's pixels; it counts as broken where more than this share is truly an artifact."""

INTACT_SHARE = 0.05
"""Of an object's pixels; it counts as intact where at most this share is truly an artifact."""

Numbers = NDArray[np.int64]


@dataclass(frozen=True)
class Objects:
    """Objects of one image or of several.

    Attributes:
        images: int64 [K], number of the image of each.
        pixels: int64 [K], its pixels that count; at least 1.
        artifact: int64 [K], those that are truly an artifact.
        marked: int64 [K], those whose score reaches the threshold.
        score: float64 [K], the mean score of its pixels.
    """

    images: Numbers
    pixels: Numbers
    artifact: Numbers
    marked: Numbers
    score: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.images)

    def broken(self, share: float = BROKEN_SHARE) -> NDArray[np.bool_]:
        """Whether more than `share` of an object is an artifact: bool [K]."""
        return self.artifact / self.pixels > share

    def intact(self, share: float = INTACT_SHARE) -> NDArray[np.bool_]:
        """Whether at most `share` of an object is an artifact: bool [K]. Between intact and broken lies the rest."""
        return self.artifact / self.pixels <= share

    @property
    def marked_share(self) -> NDArray[np.float64]:
        """Share of each one's area whose score reaches the threshold, float64 [K]."""
        return self.marked / self.pixels

    def of(self, chosen: NDArray[np.bool_]) -> Objects:
        """Some of the objects."""
        return Objects(
            self.images[chosen],
            self.pixels[chosen],
            self.artifact[chosen],
            self.marked[chosen],
            self.score[chosen],
        )


def objects_of(
    number: int,
    labels: NDArray[np.integer],
    truth: Masks,
    scores: Scores,
    threshold: float,
    *,
    counted: Masks | None = None,
    where: str = "",
) -> Objects:
    """The objects of an image.

    Args:
        number: of the image, unique in the set.
        labels: int [H, W]: 1 and above for the objects, 0 elsewhere.
        truth: bool [H, W], where an artifact is.
        scores: 0 to 1, [H, W].
        threshold: a pixel is marked where its score is at least this.
        counted: bool [H, W], pixels that are not ignored; an object without any is left out. None counts all.
        where: the image, for messages.

    Raises:
        EvaluationError: shapes that differ, labels below 0, or scores that are not numbers from 0 to 1.
    """
    check_scores(truth.shape, scores, where=where)
    if labels.shape != truth.shape or (labels.size and labels.min() < 0):
        raise EvaluationError(
            f"{where}: labels of objects {labels.shape} and mask {truth.shape} must have one shape; labels start at 0"
        )
    chosen = labels > 0 if counted is None else (labels > 0) & counted
    names, owner = np.unique(labels[chosen], return_inverse=True)
    size = len(names)
    pixels = np.bincount(owner, minlength=size)
    marked = scores[chosen] >= threshold
    return Objects(
        np.full(size, number, np.int64),
        pixels,
        np.bincount(owner[truth[chosen]], minlength=size),
        np.bincount(owner[marked], minlength=size),
        np.bincount(owner, scores[chosen].astype(np.float64), minlength=size) / np.maximum(pixels, 1),
    )


def joined(parts: Sequence[Objects]) -> Objects:
    """The objects of several images, or of several workers; the order does not change any figure.

    Raises:
        EvaluationError: there are none.
    """
    if not sum(map(len, parts)):
        raise EvaluationError("there are no objects in these images")
    together = [
        np.concatenate([getattr(part, name) for part in parts])
        for name in ("images", "pixels", "artifact", "marked", "score")
    ]
    order = np.argsort(together[0], kind="stable")
    images, pixels, artifact, marked, score = (one[order] for one in together)
    return Objects(images, pixels, artifact, marked, score)


def object_auroc(
    broken: Objects, intact: Objects, *, by_area: bool = True, seed: int = 0, resamples: int = RESAMPLES
) -> Interval:
    """Probability that a broken object is marked more than an intact one, ties counting half.

    Args:
        broken, intact: objects; of one set, or of two sets whose images have different numbers.
        by_area: order them by the share of their area above the threshold, which ties all that are not marked; else
            by their mean score.
        seed, resamples: of the interval, over images.

    Raises:
        EvaluationError: there are no objects at all.
    """
    both = joined([broken, intact])
    ordered = np.argsort(np.concatenate([broken.images, intact.images]), kind="stable")
    truth = np.concatenate([np.ones(len(broken), np.bool_), np.zeros(len(intact), np.bool_)])[ordered]
    _, images = np.unique(both.images, return_inverse=True)
    return auroc(truth, both.marked_share if by_area else both.score, images, seed=seed, resamples=resamples)
