"""Probability maps of images of any size, whole or in overlapping tiles whose seams are blended."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice, product

import numpy as np
from numpy.typing import NDArray

from actors.errors import ArgumentError
from actors.segmentation.scoring import Scores

Weights = NDArray[np.float32]
_Tile = tuple[int, slice, slice, Weights]
"""Number of the image, rows, columns, and weights [rows, columns] of the tile's probabilities."""


class Predictor:
    """Scores of images of any size; it is itself of the type `Scores`.

    Without `tile`, every image is scored whole. With it, a side above `tile` pixels is covered by tiles of that length
    at even distances, which overlap by at least `overlap` pixels. A tile's outer quarter of the overlap has the weight
    0, because the network lacks the surroundings there; in the middle half, the weight rises by a raised cosine. The
    weights of all tiles add up to 1 at every pixel. So a network whose scores depend on less than `overlap / 4` pixels
    around each pixel gives the same map in tiles as whole, and an image that fits one tile has the map of the whole.

    The network sees at most `batch_size` tiles at a time; beside them, memory holds the images and their maps.

    Args:
        scores: of images of one size, see `actors.segmentation.scoring`.
        tile: side of a tile in pixels; None scores whole images.
        overlap: of neighbouring tiles in pixels, at most half a tile; None takes a quarter of a tile.
        batch_size: tiles that are scored together; pass that of the segmenter.
        smallest: pixels that a side must have; smaller images are continued by their last row or column, see
            `actors.segmentation.segmenter.smallest_side`.

    Raises:
        ArgumentError: a tile that is smaller than `smallest`, or an overlap out of range.
    """

    def __init__(
        self,
        scores: Scores,
        *,
        tile: int | None = None,
        overlap: int | None = None,
        batch_size: int = 8,
        smallest: int = 1,
    ) -> None:
        if tile is not None and tile < smallest:
            raise ArgumentError(
                "tile", f"found {tile}; allowed: at least {smallest} pixels, for this network"
            )
        if overlap is not None and (tile is None or not 0 <= overlap <= tile // 2):
            allowed = "nothing without tile" if tile is None else f"0 to {tile // 2}, half of the tile"
            raise ArgumentError("overlap", f"found {overlap}; allowed: {allowed}")
        self.scores = scores
        self.tile = tile
        self.overlap = overlap if overlap is not None else (tile or 0) // 4
        self.batch_size = batch_size
        self.smallest = smallest

    def __call__(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """uint8 [N, H, W, 3] to the artifact's probability, float32 [N, H, W]."""
        height, width = images.shape[1:3]
        missing = [max(0, self.smallest - side) for side in (height, width)]
        if any(missing):
            images = np.pad(images, ((0, 0), (0, missing[0]), (0, missing[1]), (0, 0)), mode="edge")
        if self.tile is None or max(height, width) <= self.tile:
            return self.scores(images)[:, :height, :width]
        maps = np.zeros(images.shape[:3], np.float32)
        tiles = self._tiles(images.shape)
        while group := list(islice(tiles, self.batch_size)):
            found = self.scores(
                np.stack([images[number, rows, columns] for number, rows, columns, _ in group])
            )
            for (number, rows, columns, weights), score in zip(group, found, strict=True):
                maps[number, rows, columns] += weights * score
        # The sum of weights is 1 but for rounding, which must not lead beyond 1.
        return np.clip(maps, 0, 1, out=maps)[:, :height, :width]

    def _tiles(self, shape: tuple[int, ...]) -> Iterator[_Tile]:
        assert self.tile is not None
        down, across = (spans(length, self.tile, self.overlap) for length in shape[1:3])
        for number in range(shape[0]):
            for (rows, by_row), (columns, by_column) in product(down, across):
                yield number, rows, columns, by_row[:, None] * by_column


def spans(length: int, tile: int, overlap: int) -> list[tuple[slice, Weights]]:
    """Where the tiles of one axis lie, and their weights float32 [tile], which add up to 1 at every pixel.

    Args:
        length: of the axis in pixels.
        tile: of a tile; a shorter axis has one tile of its own length.
        overlap: at least that of neighbours; 0 to `tile // 2`.
    """
    if length <= tile:
        return [(slice(0, length), np.ones(length, np.float32))]
    count = -(-(length - overlap) // (tile - overlap))
    starts = np.linspace(0, length - tile, count).round().astype(int)
    total = np.zeros(length)
    weights = []
    for number, start in enumerate(starts):
        one = np.ones(tile)
        if number > 0:
            one *= _rise(tile, overlap)
        if number < count - 1:
            one *= _rise(tile, overlap)[::-1]
        weights.append(one)
        total[start : start + tile] += one
    return [
        (slice(start, start + tile), (one / total[start : start + tile]).astype(np.float32))
        for start, one in zip(starts.tolist(), weights, strict=True)
    ]


def _rise(tile: int, overlap: int) -> NDArray[np.float64]:
    """From 0 in the first quarter of the overlap to 1 in its last one, by a raised cosine at the pixels' centres."""
    place = (np.arange(tile) + 0.5 - overlap / 4) / max(overlap / 2, 1e-9)
    return np.sin(np.pi / 2 * np.clip(place, 0, 1)) ** 2
