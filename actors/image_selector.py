"""From the bytes of a source to a clean image of the recipe's size, or a reason why not."""

from __future__ import annotations

import numpy as np
from PIL import Image

from actors.batch import Sample
from actors.errors import Reject
from actors.images import decode, encode_image, encode_mask, fit
from actors.masks import MaskReading, decode_mask
from actors.stage_names import StageName


class ImageSelector:
    """Decodes with limits, checks the shape, crops to the centred square and resizes.

    Args:
        size: side of the square, in pixels.
        smallest_side: of the image as it comes, in pixels.
        largest_aspect: longer side over shorter side.
        largest_pixels: images with more are not decoded.
        masks: how the source's masks are to be read.
    """

    def __init__(
        self,
        *,
        size: int,
        smallest_side: int,
        largest_aspect: float,
        largest_pixels: int,
        masks: MaskReading | None = None,
    ) -> None:
        self.size = size
        self.smallest_side = smallest_side
        self.largest_aspect = largest_aspect
        self.largest_pixels = largest_pixels
        self.masks = masks or MaskReading()

    def __call__(self, sample: Sample, image: bytes, mask: bytes | None) -> Sample:
        """Fills `sample.image`, and `sample.mask` where the source gives one, or rejects the sample."""
        try:
            decoded = decode(image, largest_pixels=self.largest_pixels, needed=self.size)
            self._check(*decoded.size)
            picture, size, orientation = fit(decoded.image, self.size), decoded.size, decoded.orientation
            del decoded  # a large image is not held while its mask is decoded
            if mask is not None:
                sample.mask = self._mask(mask, size, orientation)
            sample.image = encode_image(picture)
        except Reject as why:
            sample.reject(StageName.SELECT_IMAGE, why)
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

    def _mask(self, data: bytes, size: tuple[int, int], orientation: int) -> bytes:
        mask = decode_mask(
            data, self.masks, size=size, orientation=orientation, largest_pixels=self.largest_pixels
        )
        # What is ignored is never inside, so that it is no region.
        return encode_mask(np.asarray(fit(Image.fromarray(mask.inside), self.size, smooth=False)))
