"""The evaluation of a segmenter's checkpoint on images whose artifacts are known."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from actors.masks import MaskReading
from actors.redaction import redact
from eval.evaluate import Evaluation, best_threshold, evaluate, random_iou
from eval.labelled import Labelled, read_labelled
from eval.metrics import Interval
from eval.splits import open_split, splits_version

DEFAULT_THRESHOLD = 0.5

ScoreImages = Callable[[NDArray[np.uint8]], NDArray[np.float32]]


@dataclass(frozen=True)
class Report:
    """One evaluation, with its inputs.

    Attributes:
        checkpoint: as passed to `evaluate_checkpoint`.
        model: fingerprint of its weights.
        data: the split with its version, or the URLs.
        threshold_from: `given`, `validation` (largest pooled IoU_fg there) or `default`.
        evaluation: the measures.
        at_random: IoU_fg of the same regions at random images and places, and the range of 95 % of the draws.
        notes: what is needed to interpret the figures.
    """

    checkpoint: str
    model: str
    data: str
    threshold_from: str
    evaluation: Evaluation
    at_random: Interval
    notes: tuple[str, ...]

    def document(self) -> dict[str, Any]:
        """Return the report for JSON, which has no NaN: undefined measures are null."""
        document = asdict(self)
        if math.isnan(self.evaluation.average_precision):
            document["evaluation"]["average_precision"] = None
        return document


def evaluate_checkpoint(
    checkpoint: str,
    *,
    split: str = "validation",
    urls: Sequence[str] = (),
    threshold: float | None = None,
    root: Path | None = None,
    reading: MaskReading | None = None,
) -> Report:
    """Score the images of a split, or of tars, in batches, and compare the scores with the true masks.

    If `threshold` is None, splits use the threshold with the largest pooled IoU_fg on the validation split. That
    threshold does not carry over to other data, so `urls` use 0.5.

    Args:
        checkpoint: a folder, a hub id in the local cache, or a name such as `tinytown/regions-convnext`.
        split: `labelled`, `validation` or `sealed`; ignored if `urls` are given.
        urls: tars with `image.png` and `mask.png`.
        threshold: score from which a pixel is predicted.
        root: folder of the splits; None takes the shipped ones.
        reading: how to read the masks of `urls`.

    Raises:
        EvaluationError: data that cannot be evaluated.
        ModelError: a checkpoint that cannot be loaded.
    """
    if urls:
        truth = read_labelled(urls, reading=reading)
    else:
        truth = open_split(split, sealed_allowed=split == "sealed", root=root)
    data = " ".join(map(redact, urls)) if urls else f"{split} of {splits_version(root)}"

    from actors.models import fingerprint
    from actors.segmentation.segmenter import Segmenter

    segmenter = Segmenter(checkpoint)
    scores = segmenter(truth.images)
    chosen, source = threshold, "given"
    if chosen is None and urls:
        chosen, source = DEFAULT_THRESHOLD, "default"
    elif chosen is None:
        on_validation = (truth, scores) if split == "validation" else _validation(segmenter, root)
        chosen, source = best_threshold(on_validation[0].masks, on_validation[1]), "validation"
    assert chosen is not None
    return Report(
        checkpoint=checkpoint,
        model=fingerprint(checkpoint),
        data=data,
        threshold_from=source,
        evaluation=evaluate(truth.masks, scores, chosen, ignored=truth.ignored),
        at_random=random_iou(truth.masks, scores >= chosen, ignored=truth.ignored),
        notes=(*_notes("" if urls else split, chosen, source), *_ignored(truth)),
    )


def _validation(score: ScoreImages, root: Path | None) -> tuple[Labelled, NDArray[np.float32]]:
    validation = open_split("validation", root=root)
    return validation, score(validation.images)


def _notes(split: str, threshold: float, source: str) -> list[str]:
    notes = ["sealed: for final figures only"] if split == "sealed" else []
    if source == "validation":
        own = "; these are the same images, so the figures flatter" if split == "validation" else ""
        notes.append(f"threshold {threshold:g}: the largest pooled IoU_fg on the validation split{own}")
    elif source == "default":
        notes.append(f"threshold {threshold:g}: the default for other data; --threshold sets another")
    else:
        notes.append(f"threshold {threshold:g}: as given")
    return notes


def _ignored(truth: Labelled) -> list[str]:
    if truth.ignored is None:
        return []
    return [f"{truth.ignored.mean():.1%} of the pixels are ignored, as their masks state"]
