"""The score of images against a score that annotators gave them; memory is bounded."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from eval.image_sample import ImageSample
from eval.metrics import Interval
from eval.metrics.ranking import rank_correlation

PAIRS = 1 << 14
"""Images whose two scores are kept; of more, a random sample."""


@dataclass(frozen=True)
class HumanScores:
    """Rank correlation of the mean score of an image with its `artifact_score`.

    Attributes:
        images: that it is computed from.
        spearman: negative for a good detector, since a better image has a higher `artifact_score`; nan where either
            is constant.
    """

    images: int
    spearman: Interval


class ScorePairs:
    """Pairs of the predicted and the human score of images.

    Args:
        most: images that are kept.
        seed: of the sample and the interval.
    """

    def __init__(self, *, most: int = PAIRS, seed: int = 0) -> None:
        self.seed = seed
        self._sample: ImageSample[tuple[float, float]] = ImageSample(most, seed)

    @property
    def pairs(self) -> list[tuple[float, float]]:
        """Predicted and human score, by ascending number of the image."""
        return self._sample.items

    def add(self, number: int, predicted: float, human: float) -> None:
        """Add an image; `number` is unique in the set."""
        self._sample.add(number, (predicted, human), 1)

    def merge(self, other: ScorePairs) -> None:
        """Add another worker's images of the same set."""
        self._sample.merge(other._sample)

    def figures(self) -> HumanScores | None:
        """None where no image has a human score."""
        if not len(self._sample):
            return None
        predicted, human = (np.array(one) for one in zip(*self.pairs, strict=True))
        return HumanScores(len(predicted), rank_correlation(predicted, human, seed=self.seed))
