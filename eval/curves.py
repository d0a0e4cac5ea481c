"""What a report draws: curves over thresholds, reliability and the distribution of scores, from one histogram."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eval.metrics.bootstrap import Values, ratio
from eval.metrics.levels import CALIBRATION_BINS, LEVELS, Histogram
from eval.metrics.masks import iou_of

SCORE_BINS = 32
"""Of the distribution of scores: 32 levels in each."""


@dataclass(frozen=True)
class Curves:
    """Figures of pixels, whose scores are rounded to `eval.metrics.levels.LEVELS` levels.

    Attributes:
        thresholds: 1 to 0, float64 [LEVELS]; a pixel is predicted where its score is at least this.
        precision: at each threshold; nan where nothing is predicted.
        recall: at each; nan without any artifact.
        iou: pooled IoU_fg at each.
        bin_score: mean score in each of the calibration's bins; nan where one is empty.
        bin_artifact: share of artifact pixels in each; nan where one is empty.
        bin_share: share of all pixels in each.
        clean, artifact: share of the clean, and of the artifact pixels, in each of `SCORE_BINS` bins of scores.
    """

    thresholds: Values
    precision: Values
    recall: Values
    iou: Values
    bin_score: Values
    bin_artifact: Values
    bin_share: Values
    clean: Values
    artifact: Values

    def document(self) -> dict[str, list[float | None]]:
        """The curves for JSON; nan is null."""
        return {
            name: [None if np.isnan(value) else float(value) for value in values]
            for name, values in vars(self).items()
        }


def curves_of(table: Histogram) -> Curves:
    """The curves of a histogram [2, LEVELS], as `eval.metrics.levels.histogram` counts it."""
    extra, hits = table[:, ::-1].cumsum(axis=-1).astype(np.float64)
    missed = hits[-1] - hits
    values = np.arange(LEVELS) / (LEVELS - 1)
    starts = -(-np.arange(CALIBRATION_BINS) * (LEVELS - 1) // CALIBRATION_BINS)
    pixels, scores, positives = (
        np.add.reduceat(one.astype(np.float64), starts)
        for one in (table.sum(axis=0), table.sum(axis=0) * values, table[1])
    )
    return Curves(
        thresholds=values[::-1],
        precision=ratio(hits, hits + extra),
        recall=ratio(hits, np.full(LEVELS, hits[-1])),
        iou=iou_of(np.stack([hits, extra, missed], axis=-1)),
        bin_score=ratio(scores, pixels),
        bin_artifact=ratio(positives, pixels),
        bin_share=ratio(pixels, np.full(len(pixels), pixels.sum())),
        clean=_shares(table[0]),
        artifact=_shares(table[1]),
    )


def _shares(counts: NDArray[np.int64] | NDArray[np.float64]) -> Values:
    binned = counts.astype(np.float64).reshape(SCORE_BINS, -1).sum(axis=-1)
    return ratio(binned, np.full(SCORE_BINS, binned.sum()))
