"""The figures of a report in the words of its readers, for the console and for the page."""

from __future__ import annotations

import math
from collections.abc import Iterator

from eval.metrics import Interval
from eval.report import Report

COMPARED = (
    "IoU_fg",
    "AP (pixels)",
    "broken / intact objects",
    "broken / clean objects",
    "area marked on clean images",
)
"""The columns of `Report.rows`; those of objects are AUROCs by mean score."""

_AT_THRESHOLD = (
    ("IoU_fg (pooled)", "iou_fg"),
    ("IoU_fg (mean of images)", "iou_per_image"),
    ("mIoU_2class", "miou_2class"),
    ("F1", "f1"),
    ("precision", "precision"),
    ("recall", "recall"),
    ("F1 (mean of images)", "f1_per_image"),
    ("precision (mean of images)", "precision_per_image"),
    ("recall (mean of images)", "recall_per_image"),
)

_THRESHOLD_FREE = (
    ("average precision (pixels)", "average_precision"),
    ("AUROC (pixels)", "auroc"),
    ("expected calibration error", "calibration_error"),
    ("Brier score", "brier"),
    ("AUROC (images, by mean score)", "image_auroc"),
    ("average precision (images)", "image_average_precision"),
)

_OBJECTS = (
    ("AUROC, broken against intact objects, by marked area", "within"),
    ("AUROC, broken objects against those of clean images, by marked area", "against_clean"),
    ("AUROC, broken against intact objects, by mean score", "within_by_score"),
    ("AUROC, broken objects against those of clean images, by mean score", "against_clean_by_score"),
)


def figure_lines(report: Report) -> Iterator[tuple[str, Interval]]:
    """Every figure of the detector with its name, in the order of the report."""
    found = report.evaluation
    for name, field in _AT_THRESHOLD:
        yield name, getattr(found, field)
    for name, field in _THRESHOLD_FREE:
        yield name, getattr(report.threshold_free, field)
    if found.clean is not None:
        yield f"area marked on {found.clean.images:,} clean images", found.clean.area
        yield "clean images with a mark", found.clean.marked
    if report.objects is not None:
        for name, field in _OBJECTS:
            yield name, getattr(report.objects, field)
    if report.human is not None:
        yield (
            f"rank correlation (Spearman) of {report.human.images:,} image scores with artifact_score",
            report.human.spearman,
        )
    yield "IoU_fg, same regions at random", report.at_random


def percent(figure: Interval) -> tuple[str, str]:
    """A figure and its interval in percent."""
    if math.isnan(figure.value):
        return "undefined", ""
    if math.isnan(figure.low):
        return f"{100 * figure.value:.2f}", ""
    return f"{100 * figure.value:.2f}", f"{100 * figure.low:.2f} to {100 * figure.high:.2f}"


def compared_cell(value: float | None) -> str:
    """A figure of `Report.rows` in percent; a dash where there is none."""
    return "-" if value is None or math.isnan(value) else f"{100 * value:.1f}"


def gain_lines(report: Report) -> Iterator[str]:
    """A sentence for each measure whose gain is known."""
    names = {"iou_fg": "IoU_fg", "average_precision": "AP"}
    for measure, gain in report.gain.items():
        yield (
            f"{names[measure]}: {gain.share:.0%} of the room between {gain.blind!r} ({100 * gain.blind_value:.1f}) "
            f"and {gain.upper!r} ({100 * gain.upper_value:.1f})"
        )
