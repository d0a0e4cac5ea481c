"""From the bytes of a source to a clean image of the recipe's size, or a reason why not."""

from __future__ import annotations

import numpy as np

from actors.batch import Sample
from actors.errors import Reject
from actors.images import decode_image, encode_image, encode_mask, fit

STAGE = "select_image"


class ImageSelector:
    """Decodes with limits, checks the shape, crops to the centred square and resizes.

    Args:
        size: side of the square, in pixels.
        smallest_side: of the image as it comes, in pixels.
        largest_aspect: longer side over shorter side.
        largest_pixels: images with more are not decoded.
    """

    def __init__(self, *, size: int, smallest_side: int, largest_aspect: float, largest_pixels: int) -> None:
        self.size = size
        self.smallest_side = smallest_side
        self.largest_aspect = largest_aspect
        self.largest_pixels = largest_pixels

    def __call__(self, sample: Sample, image: bytes, mask: bytes | None) -> Sample:
        """Fills `sample.image`, and `sample.mask` where the source gives one, or rejects the sample."""
        try:
            picture = decode_image(image, largest_pixels=self.largest_pixels)
            width, height = picture.size
            self._check(width, height)
            if mask is not None:
                sample.mask = self._mask(mask, width, height)
            sample.image = encode_image(fit(picture, self.size))
        except Reject as why:
            sample.reject(STAGE, why)
        return sample

    def _check(self, width: int, height: int) -> None:
        short, long = sorted((width, height))
        if short < self.smallest_side:
            raise Reject(
                "too_small",
                f"{width} x {height} pixels; the smaller side must be at least {self.smallest_side}",
            )
        if long > self.largest_aspect * short:
            raise Reject(
                "too_long",
                f"{width} x {height} pixels; the longer side may be {self.largest_aspect:g} times the shorter",
            )

    def _mask(self, data: bytes, width: int, height: int) -> bytes:
        try:
            mask = decode_image(data, largest_pixels=self.largest_pixels)
        except Reject as why:
            raise Reject(f"mask_{why.reason}", f"the mask: {why.detail}") from None
        if mask.size != (width, height):
            raise Reject(
                "mask_size", f"the mask is {mask.width} x {mask.height} pixels, the image {width} x {height}"
            )
        levels = np.asarray(fit(mask, self.size, smooth=False).convert("L"))
        # Some tools write masks as 0 and 1 instead of 0 and 255.
        return encode_mask(levels >= (1 if levels.max() == 1 else 128))
