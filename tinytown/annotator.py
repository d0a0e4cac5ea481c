"""Marks what no legal picture explains. It shares no code with the corruption pipeline: it is the test of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from tinytown.fitting import Placed, fit
from tinytown.scene import Scene

TOLERANCE = 0.07
"""Difference to the nearest legal picture, of full scale, from which a pixel is wrong."""

SMALLEST = 1.0
"""What a mark must weigh: the sum over its pixels of how much each exceeds the tolerance, in tolerances."""

_CROSS = ndimage.generate_binary_structure(2, 1)[..., None]

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Annotation:
    """What an annotator says of an image.

    Attributes:
        legal: uint8 [64, 64, 3], the nearest picture without artifacts.
        wrong: float32 [64, 64], how far each pixel is from it, in tolerances; from 1 on it is wrong.
        mask: bool [64, 64], what the annotator marks.
        found: for every object of the scene where it was found, or None.
        objects: uint8 [64, 64], 0 for the background, i + 1 where the scene's i-th object is seen in `legal`.
    """

    legal: NDArray[np.uint8]
    wrong: Floats
    mask: Mask
    found: tuple[Placed | None, ...]
    objects: NDArray[np.uint8]

    @property
    def missing(self) -> tuple[int, ...]:
        """Numbers of the objects that are nowhere in the image."""
        return tuple(number for number, placed in enumerate(self.found) if placed is None)


def annotate(image: NDArray[np.uint8], scene: Scene) -> Annotation:
    """Compares an image with the nearest legal picture of its caption.

    Args:
        image: uint8 [64, 64, 3].
        scene: what the caption asks for; see `scene.parse`.
    """
    legal = fit(image, scene)
    wrong = difference(image, legal.image) / np.float32(TOLERANCE)
    return Annotation(legal.image, wrong, mark(wrong), legal.found, legal.objects)


def mark(wrong: Floats, strictness: float = 1.0) -> Mask:
    """The pixels that someone marks.

    Args:
        wrong: float32 [H, W], in tolerances.
        strictness: 1 marks from one tolerance on; 0.5 sees only what is twice as wrong.

    Returns:
        bool [H, W]; what weighs too little is left out.
    """
    seen = wrong * strictness
    marked: Mask = seen >= 1
    number, count = ndimage.label(marked, structure=np.ones((3, 3)))
    weights = ndimage.sum_labels(seen - 1, number, np.arange(count + 1))
    keep = weights >= SMALLEST
    keep[0] = False
    kept: Mask = keep[number]
    return kept


def difference(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> Floats:
    """How far two pictures are apart at each pixel, 0..1, where blur and a shift by a pixel count for nothing.

    A pixel differs by what it lies outside the range of the other picture's pixel and its four neighbours, in its
    worst channel; taken both ways, since a thing that is lacking is found only from the picture that has it.

    Args:
        one, other: uint8 [H, W, 3].
    """
    first = one.astype(np.float32) / np.float32(255)
    second = other.astype(np.float32) / np.float32(255)
    return np.maximum(_outside(first, second), _outside(second, first))


def _outside(picture: Floats, other: Floats) -> Floats:
    above = picture - ndimage.maximum_filter(other, footprint=_CROSS)
    below = ndimage.minimum_filter(other, footprint=_CROSS) - picture
    result: Floats = np.maximum(np.maximum(above, below).max(axis=2), 0)
    return result
