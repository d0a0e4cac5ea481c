"""Marks artifacts: a detector's score map of every image, the mask at a threshold, and figures of both."""

from __future__ import annotations

import io
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from actors.batch import Sample
from actors.connected import connected
from actors.images import encode_mask, encode_scores
from actors.segmentation.scoring import Scores, scored
from actors.stage_names import StageName

METRICS = ("score", "largest_score", "marked_area", "regions")
"""Figures of a marked image: mean and largest of its scores, share of its pixels and number of regions at or above
the threshold. A region is a connected component of neighbours, by corners too."""

MOST_PIXELS = 1 << 25
"""Of images that are decoded and scored together, beyond the first."""


class Marker:
    """Fills `scores`, `mask` and `metrics`. Works on samples of any sizes; rejected ones pass through.

    Which samples come together does not change the marks of any of them.

    Args:
        scores: of the detector, see `actors.segmentation.scoring`; `actors.segmentation.predictor.Predictor` takes
            images of all sizes.
        threshold: a pixel is marked where its score is at least this.
        batch_size: images of one size that are decoded and scored together.
    """

    def __init__(self, scores: Scores, *, threshold: float, batch_size: int = 8) -> None:
        self.scores = scores
        self.threshold = threshold
        self.batch_size = batch_size

    def __call__(self, samples: Sequence[Sample]) -> list[Sample]:
        of_one_size: defaultdict[tuple[int, int], list[Sample]] = defaultdict(list)
        for sample in samples:
            if not sample.rejected:
                of_one_size[_size(sample)].append(sample)
        for (width, height), group in of_one_size.items():
            found = scored(
                group,
                self.scores,
                batch_size=max(1, min(self.batch_size, MOST_PIXELS // (width * height))),
                stage=StageName.PREDICT,
                network="detector",
                setting="detector.batch_size",
            )
            for sample, score in found:
                self._mark(sample, score)
        return list(samples)

    def _mark(self, sample: Sample, score: NDArray[np.float32]) -> None:
        marked = score >= self.threshold
        sample.scores, sample.mask = encode_scores(score), encode_mask(marked)
        sample.metrics = {
            "score": float(score.mean(dtype=np.float64)),
            "largest_score": float(score.max()),
            "marked_area": float(marked.mean()),
            "regions": float(connected(marked)[1]),
        }


def _size(sample: Sample) -> tuple[int, int]:
    assert sample.image is not None, sample.key
    with Image.open(io.BytesIO(sample.image), formats=("PNG",)) as header:
        return header.size
