"""Random changes of a training image and its label, drawn from (seed, step, slot) alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from actors.seeding import seed_for
from train.data.samples import IGNORED
from train.recipe import Augmentation

_TRIES = 10
"""Crops that are drawn until none of the classes covers too much, as in mmsegmentation's RandomCrop."""

Pixels = NDArray[np.uint8]


def augment(
    image: Pixels, label: Pixels, settings: Augmentation, *, seed: int, step: int, slot: int
) -> tuple[Pixels, Pixels]:
    """Resize, crop, mirror and recolour an image; its label follows.

    Where the image is smaller than the crop, it is padded at the right and at the bottom, with ignored pixels.

    Args:
        image: uint8 [H, W, 3].
        label: uint8 [H, W], class numbers and `IGNORED`.
        settings: of the recipe.
        seed: of the recipe.
        step, slot: place of the sample in the training.

    Returns:
        Image and label, uint8; [crop, crop, 3] and [crop, crop] where `settings.crop` is set.
    """
    rng = np.random.default_rng(seed_for(seed, str(step), "augment", slot))
    if settings.resize != (1.0, 1.0):
        image, label = _resized(image, label, float(rng.uniform(*settings.resize)))
    if settings.crop is not None:
        image, label = _cropped(image, label, settings.crop, settings.largest_share, rng)
    if rng.random() < settings.flip:
        image, label = image[:, ::-1], label[:, ::-1]
    if settings.colour:
        gain, offset = rng.uniform(-settings.colour, settings.colour, (2, 3))
        image = np.clip(image * (1 + gain) + 255 * offset, 0, 255).round().astype(np.uint8)
    return np.ascontiguousarray(image), np.ascontiguousarray(label)


def padded(image: Pixels, label: Pixels, height: int, width: int) -> tuple[Pixels, Pixels]:
    """An image and its label at least so large, filled up at the right and at the bottom with ignored pixels."""
    down, right = max(0, height - label.shape[0]), max(0, width - label.shape[1])
    if down or right:
        image = np.pad(image, ((0, down), (0, right), (0, 0)))
        label = np.pad(label, ((0, down), (0, right)), constant_values=IGNORED)
    return image, label


def _resized(image: Pixels, label: Pixels, scale: float) -> tuple[Pixels, Pixels]:
    height, width = (max(1, round(side * scale)) for side in label.shape)
    size = (width, height)
    return (
        np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR)),
        np.asarray(Image.fromarray(label).resize(size, Image.Resampling.NEAREST)),
    )


def _cropped(
    image: Pixels, label: Pixels, side: int, largest_share: float, rng: np.random.Generator
) -> tuple[Pixels, Pixels]:
    image, label = padded(image, label, side, side)
    top = left = 0
    for _ in range(_TRIES):
        top, left = (int(rng.integers(0, length - side + 1)) for length in label.shape)
        counts = np.bincount(label[top : top + side, left : left + side].ravel(), minlength=IGNORED + 1)[
            :IGNORED
        ]
        # An image without artifacts has one class wherever it is cropped.
        if np.count_nonzero(counts) > 1 and counts.max() < largest_share * counts.sum():
            break
    return image[top : top + side, left : left + side], label[top : top + side, left : left + side]
