"""Do two images show the same picture: one re-encoded, resized or slightly cropped from the other?

Perceptual hashes only propose candidates: images that are drawn alike share most of their bits. Here the pixels are
compared, after the crop that fits best was found.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from PIL import Image

SIDE = 32
"""Pixels of the side to which both images are reduced: encoders' errors average out, drawn differences do not."""

LARGEST_CROP = 0.085
"""Share of a side that may be missing at each of its ends."""

MEAN_DIFFERENCE = 8.0
"""Grey levels of 255 up to which two images are the same, on average."""

WHOLE_DIFFERENCE, CROP_DIFFERENCE = 25.0, 18.0
"""The same in the worst of 8 x 8 fields: of whole images, and after the crop that fits best.

Among many crops one of another image fits better, such as where the same thing stands elsewhere on an empty ground. In
the embedded world copies reach 20 (JPEG of quality 30 at 64 x 64 pixels) and, cropped, 16. See `benchmarks/leaks.py`.
"""

LARGEST_OTHER_SHAPE = 0.45
"""Largest share of the brightness of a window that may be drawn otherwise, see `Difference.shape`.

Encoders lose colours and keep edges: most copies in the embedded world are below 0.3, and most signs with other letters
or trees of other sizes at the same place above 0.6. See `benchmarks/leaks.py`.
"""

_HOPELESS = 40.0
"""Mean difference at every first crop above which no better crop is looked for."""

_REDUCED = 256
_FIELD = 4
_FLAT = 200.0
"""Variance of a window, in squared grey levels, below which there is hardly anything drawn in it."""

_BRIGHTNESS = np.array([0.299, 0.587, 0.114], np.float32)
"""Of red, green and blue (ITU-R BT.601)."""

_STEPS = (0.04, 0.02, 0.01, 0.005)

Box = tuple[float, float, float, float]
"""Shares of the sides that are cut off: left, top, right, bottom."""

WHOLE: Box = (0.0, 0.0, 0.0, 0.0)


def crops(*shares: float) -> tuple[Box, ...]:
    """The whole, and for each share of the sides the crop of the middle and those of the four corners."""
    found = [WHOLE]
    for share in shares:
        half = share / 2
        found += [(half, half, half, half), (0, 0, share, share), (share, 0, 0, share)]
        found += [(0, share, share, 0), (share, share, 0, 0)]
    return tuple(found)


FIRST_CROPS = crops(0.04, 0.08)


@dataclass(frozen=True)
class Difference:
    """Of two images, in grey levels of 255 but for the last.

    Attributes:
        mean: of all pixels.
        local: of the worst field.
        shape: mean squared difference of brightness in the worst window of 4 x 4 pixels, as a share of the larger
            variance there; 0 for equal images, about 1 for things that have nothing in common.
    """

    mean: float
    local: float
    shape: float

    def within(self, local: float) -> bool:
        """Whether it is small enough, `local` being the largest difference of a field."""
        return self.mean <= MEAN_DIFFERENCE and self.local <= local and self.shape <= LARGEST_OTHER_SHAPE


def same_image(one: Image.Image, other: Image.Image) -> bool:
    """Whether one image is the other, re-encoded, resized or slightly cropped.

    Args:
        one, other: RGB, of any sizes.
    """
    one, other = _reduced(one), _reduced(other)
    return difference(_pixels(one, WHOLE), _pixels(other, WHOLE)).within(WHOLE_DIFFERENCE) or any(
        best_difference(part, whole).within(CROP_DIFFERENCE) for part, whole in ((one, other), (other, one))
    )


def difference(one: NDArray[np.float32], other: NDArray[np.float32]) -> Difference:
    """The difference of two reduced images, float32 [SIDE, SIDE, 3]."""
    each = np.abs(one - other).mean(axis=2)
    fields = each.reshape(SIDE // _FIELD, _FIELD, SIDE // _FIELD, _FIELD).mean(axis=(1, 3))
    return Difference(
        float(each.mean()), float(fields.max()), _other_shape(one @ _BRIGHTNESS, other @ _BRIGHTNESS)
    )


def _other_shape(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """See `Difference.shape`; float32 [SIDE, SIDE] each."""
    left, right = (sliding_window_view(each, (_FIELD, _FIELD))[::2, ::2] for each in (one, other))
    squares = ((left - right) ** 2).mean(axis=(2, 3))
    variance = np.maximum(left.var(axis=(2, 3)), right.var(axis=(2, 3)))
    return float((squares / (variance + _FLAT)).max())


def best_difference(part: Image.Image, whole: Image.Image) -> Difference:
    """The difference of an image from the crop of another that fits best.

    Args:
        part, whole: RGB; the first may be a crop of the second.
    """
    wanted = _pixels(part, WHOLE)
    best, box = min((_distance(wanted, _pixels(whole, box)), box) for box in FIRST_CROPS)
    if best <= _HOPELESS:
        for step in _STEPS:
            best, box = _descended(wanted, whole, best, box, step)
    return difference(wanted, _pixels(whole, box))


def _descended(
    wanted: NDArray[np.float32], whole: Image.Image, best: float, box: Box, step: float
) -> tuple[float, Box]:
    """Move one edge after another by a step, for as long as the difference becomes smaller."""
    better = True
    while better:
        better = False
        for edge in range(4):
            for move in (-step, step):
                value = box[edge] + move
                if not 0 <= value <= LARGEST_CROP:
                    continue
                tried = _moved(box, edge, value)
                found = _distance(wanted, _pixels(whole, tried))
                if found < best:
                    best, box, better = found, tried, True
    return best, box


def _moved(box: Box, edge: int, value: float) -> Box:
    left, top, right, bottom = (value if place == edge else share for place, share in enumerate(box))
    return left, top, right, bottom


def _distance(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    return float(np.abs(one - other).mean())


def _pixels(image: Image.Image, box: Box) -> NDArray[np.float32]:
    """A crop, reduced to float32 [SIDE, SIDE, 3]."""
    width, height = image.size
    left, top, right, bottom = box
    window = (left * width, top * height, (1 - right) * width, (1 - bottom) * height)
    return np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BILINEAR, box=window), np.float32)


def _reduced(image: Image.Image) -> Image.Image:
    factor = min(image.size) // _REDUCED
    return image.reduce(factor) if factor > 1 else image
