"""The sample of images whose regions are kept, so that the same regions can be moved about at random."""

from __future__ import annotations

import heapq
from collections import defaultdict
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eval.evaluate import Regions
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


class BaselineSample:
    """Images in an order drawn from the seed, from its beginning, as far as their pixels go; at least one.

    So it is the same whatever the order and the worker in which they are added.

    Args:
        pixels: of all images that are kept.
        seed: of their order.
    """

    def __init__(self, pixels: int, seed: int) -> None:
        self.pixels, self.seed = pixels, seed
        self._kept: dict[int, Kept] = {}
        self._by_priority: list[tuple[float, int]] = []
        self._kept_pixels = 0
        self._end = float("inf")

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def numbers(self) -> list[int]:
        """Of the images that are kept, ascending."""
        return sorted(self._kept)

    def add(self, number: int, kept: Kept) -> None:
        """Keep an image, and drop those that stand behind the end of the sample then."""
        priority = float(np.random.default_rng((self.seed, number)).random())
        if priority >= self._end:
            return
        heapq.heappush(self._by_priority, (-priority, number))
        self._kept[number] = kept
        self._kept_pixels += kept.truth.size
        self._trim()

    def merge(self, other: BaselineSample) -> None:
        """Add another worker's images of the same set; the seeds must be equal."""
        assert (self.pixels, self.seed) == (other.pixels, other.seed)
        self._end = min(self._end, other._end)
        for number in other.numbers:
            self.add(number, other._kept[number])
        self._trim()

    def regions(self, place: int) -> list[Regions]:
        """The images by size, predicted where a score reaches more than `place` thresholds."""
        sizes: dict[tuple[int, ...], list[Kept]] = defaultdict(list)
        for number in self.numbers:
            sizes[self._kept[number].truth.shape].append(self._kept[number])
        return [
            Regions(
                [one.truth for one in group],
                [one.levels > place for one in group],
                [one.counted for one in group],
            )
            for group in sizes.values()
        ]

    def _trim(self) -> None:
        while len(self._kept) > 1 and (
            self._kept_pixels > self.pixels or -self._by_priority[0][0] >= self._end
        ):
            priority, out = heapq.heappop(self._by_priority)
            self._kept_pixels -= self._kept.pop(out).truth.size
            self._end = min(self._end, -priority)
