"""The evaluation of score maps that exist already: no detector is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from actors.errors import EvaluationError
from actors.masks import MaskReading
from eval.evaluate import CANDIDATES
from eval.labelled import stream_labelled
from eval.predictions.predictions import Missing, Predictions, Resize
from eval.streaming import StreamedEvaluation


@dataclass(frozen=True)
class EvaluatedPredictions:
    """Score maps compared with the truth.

    Attributes:
        streamed: the counts of all images that were compared; it gives the figures.
        missing: images without a map: scored 0, or left out.
        unused: maps that belong to none of the images.
        notes: what is needed to interpret the figures.
    """

    streamed: StreamedEvaluation
    missing: int
    unused: int
    notes: tuple[str, ...]


def evaluate_predictions(
    urls: Sequence[str],
    data: Sequence[str],
    *,
    thresholds: Sequence[float] = CANDIDATES,
    missing: Missing = "error",
    resize: Resize | None = None,
    reading: MaskReading | None = None,
) -> EvaluatedPredictions:
    """Compares score maps with true masks, one image at a time.

    Args:
        urls: of the maps, see `Predictions`.
        data: tars with `image.png` and `mask.png`. A map goes by the key that its image has there.
        thresholds: at which pixels are counted. None of them is chosen here: these images are the test.
        missing: what to do with an image that has no map.
        resize: how to treat maps of another size than their image; None refuses them.
        reading: how to read the masks of `data`.

    Raises:
        EvaluationError: images without a map, a map or a mask that cannot be read or does not fit, or two images of one
            key; no image has a map.
        SourceError: there are no maps or tars, or a tar is damaged.
    """
    predictions = Predictions(urls, missing=missing, resize=resize)
    streamed = StreamedEvaluation(thresholds)
    for number, sample in enumerate(stream_labelled(data, reading=reading)):
        scores = predictions.scores_for(sample.key, sample.mask.inside.shape, sample.where)
        if scores is not None:
            streamed.add(number, sample.mask, scores, where=sample.where)
    predictions.check()
    if not streamed.images:
        raise EvaluationError(
            f"none of the {predictions.missing:,} images has a map; their keys must be the same"
        )
    return EvaluatedPredictions(streamed, predictions.missing, predictions.unused, tuple(predictions.notes()))
