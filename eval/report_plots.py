"""The charts of a report."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from eval.curves import SCORE_BINS, Curves
from eval.plots import Axis, Bar, Mark, Point, bar_chart, chart
from eval.reference_rows import BLIND, UPPER
from eval.report import Report

MOST_POINTS = 1500
"""Images that are drawn in the chart of human scores."""

_SHARES = (0.001, 0.01, 0.1, 1.0)


@dataclass(frozen=True)
class Plot:
    """A chart with its heading and a sentence on how to read it."""

    title: str
    text: str
    svg: Markup


def bars_of(report: Report) -> Markup:
    """IoU_fg of the detector between what it is compared with."""
    bars = []
    own = report.evaluation.iou_fg
    for place, (name, values) in enumerate(report.rows()):
        value = values[0]
        if value is None or math.isnan(value):
            continue
        style = "detector" if place == 0 else "upper" if name.startswith(UPPER) else "blind"
        ends = (own.low, own.high) if place == 0 and not math.isnan(own.low) else (None, None)
        bars.append(Bar(_short(name), value, style, *ends))
    return bar_chart("IoU_fg in percent", sorted(bars, key=lambda bar: bar.value))


def wrong_marks_of(report: Report) -> Markup | None:
    """Shares of the wrongly marked area by where it is; None without labels of objects or without wrong marks."""
    if report.objects is None:
        return None
    wrong = report.objects.wrong
    parts = {
        "on clean images": wrong.clean_images,
        "on intact objects": wrong.intact,
        "on damaged objects, beside the artifact": wrong.damaged,
        "on the background": wrong.background,
    }
    total = sum(parts.values())
    if not total:
        return None
    return bar_chart(
        "Wrongly marked area in percent", [Bar(name, count / total, "wrong") for name, count in parts.items()]
    )


def plots_of(report: Report, curves: Curves, pairs: Sequence[tuple[float, float]]) -> list[Plot]:
    """The charts that the data allow."""
    plots = [_precision_recall(report, curves), _by_threshold(report, curves), _distribution(report, curves)]
    plots.append(_reliability(curves))
    if pairs:
        plots.append(_human(pairs))
    return plots


def _precision_recall(report: Report, curves: Curves) -> Plot:
    found = report.evaluation
    prevalence = curves.precision[-1]
    marks = [
        Mark("rule", [(0, prevalence), (1, prevalence)], "rule", label="marking at random"),
        Mark("line", _points(curves.recall, curves.precision), "detector"),
        Mark(
            "dots",
            [(found.recall.value, found.precision.value)],
            "detector",
            radii=[5],
            label=f"threshold {found.threshold:g}",
        ),
    ]
    description = (
        f"At the threshold {found.threshold:g}, {found.precision.value:.0%} of the marks are right and "
        f"{found.recall.value:.0%} of the artifact pixels are found"
    )
    return Plot(
        "Precision and recall.",
        f"{description}.",
        chart("Precision and recall of pixels", description, Axis("recall"), Axis("precision"), marks),
    )


def _by_threshold(report: Report, curves: Curves) -> Plot:
    threshold = report.evaluation.threshold
    best = int(np.argmax(curves.iou))
    marks = [Mark("rule", [(threshold, 0), (threshold, 1)], "rule", label=f"used: {threshold:g}")]
    rows = [(name, values[0]) for name, values in report.rows()[2:] if values[0] is not None]
    for prefix in (BLIND, UPPER):
        of_kind = [(value, name) for name, value in rows if name.startswith(prefix)]
        if of_kind:
            value, name = max(of_kind)
            marks.append(Mark("rule", [(0, value), (1, value)], "rule", label=_short(name)))
    marks.append(Mark("line", _points(curves.thresholds, curves.iou), "detector"))
    text = (
        f"Pooled IoU_fg, were another threshold used. On these images {curves.thresholds[best]:.2f} would be best, "
        f"with {100 * curves.iou[best]:.1f}; a threshold must not be chosen on test images."
    )
    return Plot(
        "IoU_fg by threshold.",
        text,
        chart("IoU by threshold", text, Axis("threshold"), Axis("IoU_fg"), marks),
    )


def _distribution(report: Report, curves: Curves) -> Plot:
    width = 1 / SCORE_BINS
    heights = [
        [(place * width, float(value)) for place, value in enumerate(one)]
        for one in (curves.clean, curves.artifact)
    ]
    threshold = report.evaluation.threshold
    marks = [
        Mark("rule", [(threshold, _SHARES[0]), (threshold, 1)], "rule", label=f"threshold {threshold:g}"),
        Mark("steps", heights[0], "clean"),
        Mark("steps", heights[1], "artifact"),
    ]
    text = (
        "Share of the clean pixels (blue) and of the artifact pixels (red) by their score, on a logarithmic axis. The "
        "further apart the two are, the better."
    )
    y = Axis("share of the pixels", _SHARES[0], 1, _SHARES, percent=True, log=True)
    return Plot(
        "Distribution of scores.", text, chart("Distribution of scores", text, Axis("score"), y, marks)
    )


def _reliability(curves: Curves) -> Plot:
    filled = ~np.isnan(curves.bin_score)
    points = _points(curves.bin_score[filled], curves.bin_artifact[filled])
    radii = [2 + 10 * math.sqrt(share) for share in curves.bin_share[filled]]
    marks = [
        Mark("rule", [(0, 0), (1, 1)], "rule"),
        Mark("line", points, "detector"),
        Mark("dots", points, "detector", radii=radii),
    ]
    text = (
        "Of the pixels with a score, the share that is truly an artifact; larger dots have more pixels. Above the "
        "diagonal the scores are too low, below it too high."
    )
    return Plot(
        "Reliability.",
        text,
        chart("Reliability", text, Axis("mean score"), Axis("share of artifact pixels"), marks),
    )


def _human(pairs: Sequence[tuple[float, float]]) -> Plot:
    step = -(-len(pairs) // MOST_POINTS)
    shown = pairs[::step]
    human = np.array([pair[1] for pair in pairs])
    predicted = np.array([pair[0] for pair in pairs])
    x = _axis("artifact_score of annotators (higher is better)", human)
    y = _axis("mean score of the image", predicted)
    text = (
        f"Every dot is an image; {len(shown):,} of {len(pairs):,} are drawn. For a good detector, they fall from left "
        "to right."
    )
    points = [(one[1], one[0]) for one in shown]
    marks = [Mark("dots", points, "faint", radii=[2.5] * len(points))]
    return Plot("Score against annotators.", text, chart("Score against annotators", text, x, y, marks))


def _axis(label: str, values: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> Axis:
    """An axis whose ends are ticks around all values."""
    low, high = float(values.min()), float(values.max())
    span = max(high - low, abs(high) * 1e-6, 1e-9)  # equal values need an axis, too
    step = 10 ** math.floor(math.log10(span))
    step = next(step * factor for factor in (0.2, 0.5, 1, 2) if (high - low) / (step * factor) <= 6)
    first, last = math.floor(low / step), max(math.ceil(high / step), math.floor(low / step) + 1)
    ticks = tuple(round(place * step, 12) for place in range(first, last + 1))
    return Axis(label, ticks[0], ticks[-1], ticks)


def _points(
    x: np.ndarray[tuple[int, ...], np.dtype[np.float64]], y: np.ndarray[tuple[int, ...], np.dtype[np.float64]]
) -> list[Point]:
    return [(float(across), float(up)) for across, up in zip(x, y, strict=True)]


def _short(name: str) -> str:
    return name if len(name) <= 48 else f"{name[:22]}...{name[-22:]}"
