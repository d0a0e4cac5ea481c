"""A bounded random sample of images, the same whatever the order and the worker in which they are added."""

from __future__ import annotations

import heapq
from typing import Generic, TypeVar

import numpy as np

Item = TypeVar("Item")


class ImageSample(Generic[Item]):
    """Images in an order drawn from the seed, from its beginning, as far as their sizes go; at least one.

    Args:
        most: sum of the sizes of all images that are kept.
        seed: of their order.
    """

    def __init__(self, most: int, seed: int) -> None:
        self.most, self.seed = most, seed
        self._kept: dict[int, tuple[Item, int]] = {}
        self._by_priority: list[tuple[float, int]] = []
        self._size = 0
        self._end = float("inf")

    def __len__(self) -> int:
        return len(self._kept)

    def __getitem__(self, number: int) -> Item:
        return self._kept[number][0]

    @property
    def numbers(self) -> list[int]:
        """Of the images that are kept, ascending."""
        return sorted(self._kept)

    @property
    def items(self) -> list[Item]:
        """What is kept, by ascending number of the image."""
        return [self[number] for number in self.numbers]

    def add(self, number: int, item: Item, size: int) -> None:
        """Keep an image, and drop those that stand behind the end of the sample then."""
        priority = float(np.random.default_rng((self.seed, number)).random())
        if priority >= self._end:
            return
        heapq.heappush(self._by_priority, (-priority, number))
        self._kept[number] = item, size
        self._size += size
        self._trim()

    def merge(self, other: ImageSample[Item]) -> None:
        """Add another worker's images of the same set; the seeds must be equal."""
        assert (self.most, self.seed) == (other.most, other.seed)
        self._end = min(self._end, other._end)
        for number in other.numbers:
            self.add(number, *other._kept[number])
        self._trim()

    def _trim(self) -> None:
        while len(self._kept) > 1 and (self._size > self.most or -self._by_priority[0][0] >= self._end):
            priority, out = heapq.heappop(self._by_priority)
            self._size -= self._kept.pop(out)[1]
            self._end = min(self._end, -priority)
