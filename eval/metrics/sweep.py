"""Counts at many thresholds from one histogram: how many pixels reach exactly the first n of the thresholds.

A histogram is exact, adds up over images and workers, and needs one pass over the pixels however many thresholds
there are. Where the scores are on a GPU, `torch.bucketize` computes `reached`; see `train.segmentation_validation`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from eval.metrics.masks import Counts, Masks, Sums

Reached = NDArray[np.uint8]

MOST_THRESHOLDS = 255


def reached(scores: NDArray[np.floating], thresholds: Sequence[float]) -> Reached:
    """How many thresholds each score reaches, uint8 of the shape of `scores`.

    Args:
        scores: any shape.
        thresholds: ascending, at most `MOST_THRESHOLDS`; they are rounded to the precision of the scores, as the
            comparison `scores >= threshold` does.
    """
    assert len(thresholds) <= MOST_THRESHOLDS
    edges = np.asarray(thresholds, scores.dtype)
    return np.searchsorted(edges, scores, side="right").astype(np.uint8)


def reached_histogram(levels: Reached, truth: Masks, counted: Masks, thresholds: int) -> NDArray[np.int64]:
    """How many clean (row 0) and artifact (row 1) pixels reach exactly the first n thresholds: int64 [2, T + 1].

    Args:
        levels: of `reached`.
        truth: bool, of their shape, within `counted`.
        counted: pixels that are not ignored.
        thresholds: T.
    """
    everything, positive = (
        np.bincount(levels[chosen], minlength=thresholds + 1) for chosen in (counted, truth)
    )
    return np.stack([everything - positive, positive])


def counts_at_thresholds(table: Sums) -> Counts:
    """True positives, false positives and false negatives at every threshold: int64 [..., T, 3] of [..., 2, T + 1]."""
    above = table[..., ::-1].cumsum(axis=-1)[..., ::-1][..., 1:].astype(np.int64)
    hits, extra = above[..., 1, :], above[..., 0, :]
    missed = table[..., 1, :].sum(axis=-1, keepdims=True).astype(np.int64) - hits
    return np.stack([hits, extra, missed], axis=-1)
