"""The sample of images whose regions are kept, so that the same regions can be moved about at random."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eval.evaluate import Regions
from eval.image_sample import ImageSample
from eval.metrics.sweep import Reached


@dataclass(frozen=True)
class Kept:
    """An image of the sample.

    Attributes:
        levels: number of thresholds that each score reaches, uint8 [H, W].
        truth, counted: see `eval.evaluate.Regions`.
    """

    levels: Reached
    truth: NDArray[np.bool_]
    counted: NDArray[np.bool_]


class BaselineSample(ImageSample[Kept]):
    """Images whose pixels are bounded."""

    def regions(self, place: int) -> list[Regions]:
        """The images by size, predicted where a score reaches more than `place` thresholds."""
        sizes: dict[tuple[int, ...], list[Kept]] = defaultdict(list)
        for number in self.numbers:
            sizes[self[number].truth.shape].append(self[number])
        return [
            Regions(
                [one.truth for one in group],
                [one.levels > place for one in group],
                [one.counted for one in group],
            )
            for group in sizes.values()
        ]
