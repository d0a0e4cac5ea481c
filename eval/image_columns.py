"""What is counted of an image at a threshold, and the measures of the sums of it over images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eval.metrics import Counts, Interval
from eval.metrics.bootstrap import Measure, Values, ratio
from eval.metrics.masks import f1_of, iou_of, miou_of, precision_of, recall_of

Resample = Callable[[Measure], Interval]
"""Gives a measure of the sums of an evaluation's columns with its interval over images."""

_PER_IMAGE = (iou_of, f1_of, precision_of, recall_of)
_IMAGES, _MARKED, _CLEAN, _CLEAN_PIXELS, _CLEAN_MARKED_PIXELS, _CLEAN_MARKED = range(8, 14)

COLUMNS = 14
"""Three counts, pixels that count, four measures of the image by itself; then 1, whether anything is predicted; and of
a clean image 1, its pixels, those that are predicted, and whether there are any."""


def image_columns(counts: Counts, pixels: NDArray[np.int64]) -> Values:
    """The columns of images: float64 [..., COLUMNS].

    Args:
        counts: true positives, false positives and false negatives, [..., 3].
        pixels: that count, [...].
    """
    marked = counts[..., 0] + counts[..., 1] > 0
    clean = counts[..., 0] + counts[..., 2] == 0
    columns = [
        *(counts[..., place] for place in range(3)),
        pixels,
        *(measure(counts) for measure in _PER_IMAGE),
        np.ones_like(pixels),
        marked,
        clean,
        clean * pixels,
        clean * counts[..., 1],
        clean & marked,
    ]
    return np.stack([np.asarray(column, np.float64) for column in columns], axis=-1)


@dataclass(frozen=True)
class CleanImages:
    """What is marked on images whose truth is empty.

    Attributes:
        images: their number.
        area: share of their pixels that is predicted.
        marked: share of them in which anything is predicted.
    """

    images: int
    area: Interval
    marked: Interval


@dataclass(frozen=True)
class Measures:
    """Figures at one threshold, each with its interval over images.

    Attributes:
        iou_fg: pooled IoU of the artifact class, the paper's number.
        miou_2class: mean of the pooled IoUs of artifact and background.
        iou_per_image: mean IoU of the images; 1 where truth and prediction are both empty.
        f1, precision, recall: pooled over pixels.
        f1_per_image, precision_per_image, recall_per_image: mean of the images, by the rule of `eval.metrics.masks`.
        without_region: share of the images in which nothing is predicted.
        clean: None where there is no clean image.
    """

    iou_fg: Interval
    miou_2class: Interval
    iou_per_image: Interval
    f1: Interval
    precision: Interval
    recall: Interval
    f1_per_image: Interval
    precision_per_image: Interval
    recall_per_image: Interval
    without_region: float
    clean: CleanImages | None


def measures(resample: Resample) -> Measures:
    """All measures of the sums that `resample` gives."""
    clean = round(resample(lambda sums: sums[:, _CLEAN]).value)
    iou, f1, precision, recall = (resample(_mean_of(place)) for place in range(4, 8))
    return Measures(
        iou_fg=resample(lambda sums: iou_of(sums[:, :3])),
        miou_2class=resample(lambda sums: miou_of(sums[:, :4])),
        iou_per_image=iou,
        f1=resample(lambda sums: f1_of(sums[:, :3])),
        precision=resample(lambda sums: precision_of(sums[:, :3])),
        recall=resample(lambda sums: recall_of(sums[:, :3])),
        f1_per_image=f1,
        precision_per_image=precision,
        recall_per_image=recall,
        without_region=1 - resample(_mean_of(_MARKED)).value,
        clean=CleanImages(
            clean,
            resample(lambda sums: ratio(sums[:, _CLEAN_MARKED_PIXELS], sums[:, _CLEAN_PIXELS])),
            resample(lambda sums: ratio(sums[:, _CLEAN_MARKED], sums[:, _CLEAN])),
        )
        if clean
        else None,
    )


def _mean_of(place: int) -> Measure:
    return lambda sums: ratio(sums[:, place], sums[:, _IMAGES])
