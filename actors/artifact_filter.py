"""Rejects images on which a detector sees artifacts already: more would be wrong with them than their mask says."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from actors.batch import Sample
from actors.errors import Reject
from actors.images import read_image

STAGE = "select"


class ArtifactFilter:
    """Looks at the clean images. Works on any number of samples; rejected ones pass through.

    Args:
        scores: gives the artifact's probability, float32 [N, H, W], for uint8 images [N, H, W, 3].
        threshold: probability from which a pixel is an artifact.
        largest_area: share of the image that such pixels may cover.
    """

    def __init__(
        self,
        *,
        scores: Callable[[NDArray[np.uint8]], NDArray[np.float32]],
        threshold: float,
        largest_area: float,
    ) -> None:
        self.scores = scores
        self.threshold = threshold
        self.largest_area = largest_area

    def __call__(self, samples: Sequence[Sample]) -> list[Sample]:
        """Rejects with the reason `artifacts_already` what is above the largest area."""
        alive = [sample for sample in samples if not sample.rejected]
        if alive:
            images = np.stack([read_image(_present(sample.image)) for sample in alive])
            for sample, score in zip(alive, self.scores(images), strict=True):
                self._check(sample, float((score >= self.threshold).mean()))
        return list(samples)

    def _check(self, sample: Sample, area: float) -> None:
        if area > self.largest_area:
            detail = (
                f"the detector sees artifacts on {area:.2%} of the image; at most {self.largest_area:.2%}"
            )
            sample.reject(STAGE, Reject("artifacts_already", detail))


def _present(data: bytes | None) -> bytes:
    assert data is not None
    return data
