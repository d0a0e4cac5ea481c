"""The evaluation of a segmenter's checkpoint on images whose artifacts are known."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from actors.masks import MaskReading
from actors.redaction import redact
from eval.evaluate import CANDIDATES, Evaluation
from eval.labelled import LabelledSample, samples_of, stream_labelled
from eval.metrics import Interval
from eval.splits import open_split, splits_version
from eval.streaming import StreamedEvaluation, ThresholdFree, batches

DEFAULT_THRESHOLD = 0.5
BATCH_SIZE = 8

ScoreImages = Callable[[NDArray[np.uint8]], NDArray[np.float32]]


@dataclass(frozen=True)
class Scoring:
    """How images are scored.

    Attributes:
        device: `cpu` or `cuda`.
        batch_size: images, or tiles, in one step of the network.
        tile: side in pixels of the tiles in which larger images are scored; None scores them whole.
    """

    device: str = "cpu"
    batch_size: int = BATCH_SIZE
    tile: int | None = None


@dataclass(frozen=True)
class Report:
    """One evaluation, with its inputs.

    Attributes:
        checkpoint: as passed to `evaluate_checkpoint`.
        model: fingerprint of its weights.
        data: the split with its version, or the URLs.
        threshold_from: `given`, `validation` (largest pooled IoU_fg there) or `default`.
        evaluation: the measures at the threshold.
        threshold_free: those that need none.
        at_random: IoU_fg of the same regions at random images and places, and the range of 95 % of the draws.
        notes: what is needed to interpret the figures.
    """

    checkpoint: str
    model: str
    data: str
    threshold_from: str
    evaluation: Evaluation
    threshold_free: ThresholdFree
    at_random: Interval
    notes: tuple[str, ...]

    def document(self) -> dict[str, Any]:
        """Return the report for JSON, which has no NaN: undefined measures are null."""
        document: dict[str, Any] = _without_nan(asdict(self))
        return document


def evaluate_checkpoint(
    checkpoint: str,
    *,
    split: str = "validation",
    urls: Sequence[str] = (),
    threshold: float | None = None,
    root: Path | None = None,
    reading: MaskReading | None = None,
    scoring: Scoring | None = None,
) -> Report:
    """Score the images of a split, or of tars, in batches, and compare the scores with the true masks.

    The images of tars are streamed: they may be of several sizes, and their number is limited by nothing but their
    counts. If `threshold` is None, splits use the threshold with the largest pooled IoU_fg on the validation split.
    That threshold does not carry over to other data, so `urls` use 0.5.

    Args:
        checkpoint: a folder, a hub id in the local cache, or a name such as `tinytown/regions-convnext`.
        split: `labelled`, `validation` or `sealed`; ignored if `urls` are given.
        urls: tars with `image.png` and `mask.png`.
        threshold: score from which a pixel is predicted.
        root: folder of the splits; None takes the shipped ones.
        reading: how to read the masks of `urls`.
        scoring: device, batch size and tiles; None takes the defaults.

    Raises:
        ArgumentError: tiles that are too small for the network.
        EvaluationError: data that cannot be evaluated.
        ModelError: a checkpoint that cannot be loaded, no GPU, or a batch that does not fit into memory.
    """
    if urls:
        samples = _begun(stream_labelled(urls, reading=reading))
    else:
        samples = samples_of(open_split(split, sealed_allowed=split == "sealed", root=root), split)
    data = " ".join(map(redact, urls)) if urls else f"{split} of {splits_version(root)}"

    from actors.models import fingerprint

    scoring = scoring or Scoring()
    score = _scores(checkpoint, scoring)
    chosen, source = threshold, "given"
    if chosen is None and urls:
        chosen, source = DEFAULT_THRESHOLD, "default"
    elif chosen is None and split != "validation":
        validation = samples_of(open_split("validation", root=root), "validation")
        chosen = _streamed(validation, score, scoring, CANDIDATES).best_threshold()
        source = "validation"
    streamed = _streamed(samples, score, scoring, CANDIDATES if chosen is None else (chosen,))
    if chosen is None:
        chosen, source = streamed.best_threshold(), "validation"
    return Report(
        checkpoint=checkpoint,
        model=fingerprint(checkpoint),
        data=data,
        threshold_from=source,
        evaluation=streamed.evaluation(chosen),
        threshold_free=streamed.threshold_free(),
        at_random=streamed.random_iou(chosen),
        notes=(*_notes("" if urls else split, chosen, source), *_notes_on_images(streamed)),
    )


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(one) for key, one in value.items()}
    return None if isinstance(value, float) and math.isnan(value) else value


def _begun(samples: Iterator[LabelledSample]) -> Iterator[LabelledSample]:
    """Reads the first sample at once: data that cannot be read are reported before torch is loaded."""
    return chain([next(samples)], samples)


def _scores(checkpoint: str, scoring: Scoring) -> ScoreImages:
    from actors.device import device_for
    from actors.segmentation.predictor import Predictor
    from actors.segmentation.segmenter import Segmenter, smallest_side

    device_for(scoring.device, remedy="or evaluate on the CPU: device cpu")
    segmenter = Segmenter(checkpoint, batch_size=scoring.batch_size, device=scoring.device)
    return Predictor(
        segmenter,
        tile=scoring.tile,
        batch_size=scoring.batch_size,
        smallest=smallest_side(segmenter.net.config),
    )


def _streamed(
    samples: Iterable[LabelledSample], score: ScoreImages, scoring: Scoring, thresholds: Sequence[float]
) -> StreamedEvaluation:
    """Scores all samples in batches of one image size and counts their pixels at each threshold."""
    from actors.diffusion.memory import memory_errors_explained

    found = StreamedEvaluation(thresholds)
    advice = f"set {'a smaller --batch-size' if scoring.batch_size > 1 else '--tile, or a smaller one'}"
    for batch in batches(samples, scoring.batch_size):
        images = np.stack([sample.image for _, sample in batch])
        height, width = images.shape[1:3]
        with memory_errors_explained(
            f"scoring {scoring.batch_size} images", size=(height, width), advice=advice, on_cpu=True
        ):
            scores = score(images)
        for (number, sample), one in zip(batch, scores, strict=True):
            found.add(number, sample.mask, one, where=sample.where)
    return found


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


def _notes_on_images(streamed: StreamedEvaluation) -> list[str]:
    notes = []
    if streamed.ignored_pixels:
        share = streamed.ignored_pixels / streamed.pixels
        notes.append(f"{share:.1%} of the pixels are ignored, as their masks state")
    if streamed.baseline_images < streamed.images:
        notes.append(
            f"regions at random: from a random sample of {streamed.baseline_images:,} of the {streamed.images:,} images"
        )
    return notes
