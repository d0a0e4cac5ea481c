"""The report of an evaluation: every figure with its interval, and what it was computed from."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from eval.blind import BlindFigures
from eval.evaluate import Evaluation
from eval.human_scores import HumanScores
from eval.metrics import Interval
from eval.object_sample import ObjectFigures
from eval.reference_rows import Gain, ReferenceRow
from eval.streaming import StreamedEvaluation, ThresholdFree

SCHEMA_VERSION = 1
"""Of `figures.json`."""


@dataclass(frozen=True)
class Report:
    """One evaluation, with its inputs.

    Attributes:
        checkpoint: as passed.
        model: fingerprint of its weights, or of the predictions.
        data: the split with its version, or the URLs.
        threshold_from: `given`, `validation` (largest pooled IoU_fg there), `model` (chosen in its training),
            `predictions` (that of their masks) or `default`.
        evaluation: the measures at the threshold.
        threshold_free: those that need none.
        at_random: IoU_fg of the same regions at random images and places, and the range of 95 % of the draws.
        notes: what is needed to interpret the figures.
        data_digest: of the keys and files of all samples; see `eval.part.Part.digest`.
        objects: broken objects against intact ones; None without labels of objects.
        human: image scores against those of annotators; None without these.
        blind: predictions that do not look for artifacts, on the same images.
        reference: rows to compare with, from the split's `reference.json`.
        gain: by measure, where the detector stands between the best blind baseline and the best upper bound.
    """

    checkpoint: str
    model: str
    data: str
    threshold_from: str
    evaluation: Evaluation
    threshold_free: ThresholdFree
    at_random: Interval
    notes: tuple[str, ...]
    data_digest: str = ""
    objects: ObjectFigures | None = None
    human: HumanScores | None = None
    blind: Mapping[str, BlindFigures] = field(default_factory=dict)
    reference: Mapping[str, ReferenceRow] = field(default_factory=dict)
    gain: Mapping[str, Gain] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        """Return the report for JSON, which has no NaN: undefined measures are null."""
        document = {one.name: _plain(getattr(self, one.name)) for one in fields(self)}
        return {"schema_version": SCHEMA_VERSION, **document}

    def rows(self) -> list[tuple[str, tuple[float | None, ...]]]:
        """The detector, then what it is compared with: IoU_fg, AP, both AUROCs of objects, area on clean images."""
        found, objects = self.evaluation, self.objects
        own = (
            found.iou_fg.value,
            self.threshold_free.average_precision.value,
            objects.within_by_score.value if objects else None,
            objects.against_clean_by_score.value if objects else None,
            found.clean.area.value if found.clean else None,
        )
        # A blind prediction treats all objects alike.
        chance = 0.5 if objects else None
        rows: dict[str, tuple[float | None, ...]] = {
            name: (
                one.iou_fg.value,
                one.average_precision.value,
                chance,
                chance,
                one.clean_area.value if one.clean_area else None,
            )
            for name, one in self.blind.items()
        }
        rows = {
            name: (
                row.iou_fg[0],
                row.average_precision,
                row.object_auroc_within,
                row.object_auroc_clean,
                row.clean_area,
            )
            for name, row in self.reference.items()
        } | rows
        ordered = sorted(rows.items(), key=lambda row: (not row[0].startswith("blind"), row[0]))
        return [("this detector", own), ("the same regions at random", (self.at_random.value,)), *ordered]


def notes_on_images(streamed: StreamedEvaluation) -> list[str]:
    """What the images lack, or what of them was only sampled."""
    notes = []
    if streamed.ignored_pixels:
        share = streamed.ignored_pixels / streamed.pixels
        notes.append(f"{share:.1%} of the pixels are ignored, as their masks state")
    if streamed.baseline_images < streamed.images:
        notes.append(
            f"regions at random: from a random sample of {streamed.baseline_images:,} of the {streamed.images:,} images"
        )
    with_objects, kept = streamed.object_images
    if 0 < with_objects < streamed.images:
        notes.append(
            f"objects: {streamed.images - with_objects:,} of the {streamed.images:,} images have no objects.png; "
            "figures of objects are of the others"
        )
    if kept < with_objects:
        notes.append(
            f"objects: from a random sample of {kept:,} of the {with_objects:,} images that have them"
        )
    return notes


def _plain(value: Any) -> Any:
    if isinstance(value, ReferenceRow):
        return value.model_dump()
    if isinstance(value, Mapping):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, float):
        return None if math.isnan(value) else value
    return _plain(asdict(value)) if hasattr(value, "__dataclass_fields__") else value
