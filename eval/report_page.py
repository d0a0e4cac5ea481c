"""The page of a report: one HTML file that loads nothing, from which a reader sees where a detector fails."""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from eval.curves import Curves
from eval.gallery_page import TEMPLATES
from eval.metrics import CONFIDENCE, RESAMPLES, Interval
from eval.metrics.objects import INTACT_SHARE
from eval.reference_rows import BLIND
from eval.report import Report
from eval.report_lines import COMPARED, compared_cell, figure_lines, gain_lines, percent
from eval.report_plots import bars_of, plots_of, wrong_marks_of
from eval.report_tiles import Tile, facts_of
from eval.showcase import Section, SizeGroup

_ORIGINS = {
    "given": "as given",
    "validation": "largest pooled IoU_fg on the validation split",
    "model": "chosen in the training of the model",
    "predictions": "that of the predictions",
    "default": "the default",
}


@dataclass(frozen=True)
class Card:
    """A key figure with a sentence that says what it means."""

    label: str
    value: str
    interval: str
    meaning: str


def report_page(
    report: Report,
    curves: Curves,
    sizes: Sequence[SizeGroup],
    sections: Sequence[tuple[Section, Sequence[Tile]]],
    *,
    pairs: Sequence[tuple[float, float]] = (),
    versions: Mapping[str, object] | None = None,
) -> str:
    """Builds the page.

    Everything of the report is text, never markup. A Content-Security-Policy admits only this page's own style and no
    script at all.

    Args:
        report: the figures.
        curves: of its scores.
        sizes: groups of images by the size of their artifact.
        sections: the images to show; empty leaves them out.
        pairs: predicted and human score of images.
        versions: of the programs and assets.
    """
    style = Path(__file__).with_name("report_page.css").read_text(encoding="utf-8")
    found = report.evaluation
    return TEMPLATES.get_template("report_page.html").render(
        title=f"{report.checkpoint} on {report.data}",
        subtitle=f"{found.images:,} images; a pixel is marked where its score is at least {found.threshold:g} "
        f"({_ORIGINS[report.threshold_from]}).",
        notes=report.notes,
        cards=_cards(report),
        gain=_gain(report),
        bars=bars_of(report),
        wrong_marks=wrong_marks_of(report),
        compared_columns=COMPARED,
        intact_share=f"{INTACT_SHARE:.0%}",
        compared=_compared(report),
        plots=plots_of(report, curves, pairs),
        sizes=[_size_row(one) for one in sizes],
        sections=[(section, [(tile, facts_of(tile.row)) for tile in tiles]) for section, tiles in sections],
        figures=[(name, *percent(figure)) for name, figure in figure_lines(report)],
        intervals=f"Intervals hold {CONFIDENCE:.0%} of {RESAMPLES:,} resamples of the images; for the random regions, "
        "of the draws.",
        facts=_facts(report, versions or {}),
        style=Markup(style),
        style_hash=base64.b64encode(hashlib.sha256(style.encode()).digest()).decode(),
    )


def _cards(report: Report) -> list[Card]:
    found = report.evaluation
    cards = [
        _card(
            "IoU_fg (pooled)",
            found.iou_fg,
            "Of all pixels that are marked or truly an artifact, the share that is both.",
        ),
        _card("precision", found.precision, "Of the marked pixels, the share that is truly an artifact."),
        _card("recall", found.recall, "Of the artifact's pixels, the share that is marked."),
        _card(
            "average precision",
            report.threshold_free.average_precision,
            "Of pixels, over all thresholds. Marking at random has the share of artifact pixels.",
        ),
    ]
    if found.clean is not None:
        cards += [
            _card(
                "area marked on clean images",
                found.clean.area,
                f"Of the {found.clean.images:,} images whose truth is empty. Should be 0.",
            ),
            _card("clean images with a mark", found.clean.marked, "Share of them with any false alarm."),
        ]
    if report.objects is not None:
        objects = report.objects
        cards += [
            _card(
                "broken against intact objects",
                objects.within,
                f"AUROC by marked area: how often one of {objects.broken:,} broken objects is marked more than one of "
                f"{objects.intact:,} intact ones of images with an artifact. 0.5 is chance.",
                share=False,
            ),
            _card(
                "broken against clean objects",
                objects.against_clean,
                f"The same against the {objects.clean:,} objects of clean images.",
                share=False,
            ),
        ]
    if report.human is not None:
        cards.append(
            _card(
                "rank correlation with annotators",
                report.human.spearman,
                "Of the mean score with artifact_score, which is higher for better images: -1 is best.",
                share=False,
            )
        )
    return cards


def _card(label: str, figure: Interval, meaning: str, *, share: bool = True) -> Card:
    """A share is given in percent, anything else as it is."""
    if math.isnan(figure.value):
        return Card(label, "undefined", "", meaning)
    value, low, high = (
        f"{100 * one:.1f}" if share else f"{one:.2f}" for one in (figure.value, figure.low, figure.high)
    )
    interval = "" if math.isnan(figure.low) else f"{low} to {high}"
    return Card(label, f"{value} %" if share else value, interval, meaning)


def _gain(report: Report) -> str:
    """How the detector stands, in sentences."""
    own = report.evaluation.iou_fg.value
    rows = [(values[0], name) for name, values in report.rows()[1:] if name.startswith(BLIND)]
    better = [(value, name) for value, name in rows if value is not None and value >= own]
    below = (
        f"Its IoU_fg is not above that of {max(better)[1]!r}, which does not look at the image. "
        if better
        else ""
    )
    lines = list(gain_lines(report))
    if lines:
        return f"{below}The gain of the detector: {'; '.join(lines)}."
    return f"{below}There are no upper bounds for these images, so the gain has no share of the room."


def _compared(report: Report) -> list[tuple[str, list[str], str]]:
    rows = []
    for place, (name, values) in enumerate(report.rows()):
        padded = [*values, *[None] * (len(COMPARED) - len(values))]
        rows.append((name, [compared_cell(value) for value in padded], "detector" if place == 0 else "other"))
    return rows


def _size_row(group: SizeGroup) -> list[str]:
    low, high = f"{100 * group.low:g}", f"{100 * group.high:g}"
    name = (
        f"up to {high} %" if group.low == 0 else f"above {low} %" if group.high == 1 else f"{low} to {high} %"
    )
    if not group.images:
        return [name, "0", "-", "-", "-", "-"]
    marked = group.hits + group.extra
    return [
        name,
        f"{group.images:,}",
        f"{group.hits / (group.hits + group.missed):.1%}",
        f"{group.hits / marked:.1%}" if marked else "-",
        f"{group.hits / (marked + group.missed):.1%}",
        f"{group.found_nothing:,} ({group.found_nothing / group.images:.0%})",
    ]


def _facts(report: Report, versions: Mapping[str, object]) -> list[tuple[str, str]]:
    found = report.evaluation
    return [
        ("detector", report.checkpoint),
        ("its digest", report.model),
        ("images", report.data),
        ("their digest", report.data_digest),
        ("threshold", f"{found.threshold:g}: {_ORIGINS[report.threshold_from]}"),
        ("images without a mark", f"{found.without_region:.1%}"),
        *((name, str(value)) for name, value in versions.items()),
    ]
