"""From the bytes of a source to a clean image of the recipe's size, or a reason why not."""

from __future__ import annotations

import numpy as np
from PIL import Image

from actors.batch import Sample
from actors.errors import Reject
from actors.images import decode, encode_image, encode_mask, fit
from actors.masks import MaskReading, decode_mask
from actors.selection_config import SelectionConfig
from actors.stage_names import StageName


class ImageSelector:
    """Decodes with limits, checks the shape, crops to the centred square and resizes.

    Args:
        config: limits of size and shape; the detector's part is that of `actors.segmentation.artifact_filter`.
        size: side of the square, in pixels.
        masks: how the source's masks are to be read.
    """

    def __init__(self, config: SelectionConfig, *, size: int, masks: MaskReading | None = None) -> None:
        self.config = config
        self.size = size
        self.masks = masks or MaskReading()

    def __call__(self, sample: Sample, image: bytes, mask: bytes | None) -> Sample:
        """Fills `sample.image`, and `sample.mask` where the source gives one, or rejects the sample."""
        try:
            decoded = decode(image, largest_pixels=self.config.largest_pixels, needed=self.size)
            self._check(*decoded.size)
            square, size, orientation = fit(decoded.image, self.size), decoded.size, decoded.orientation
            del decoded  # a large image is not held while its mask is decoded
            if mask is not None:
                sample.mask = self._mask(mask, size, orientation)
            sample.image = encode_image(square)
        except Reject as why:
            sample.reject(StageName.SELECT_IMAGE, why)
        return sample

    def _check(self, width: int, height: int) -> None:
        short, long = sorted((width, height))
        if short < self.config.smallest_side:
            raise Reject(
                "too_small",
                f"{width} x {height} pixels; the smaller side must be at least {self.config.smallest_side}",
            )
        if long > self.config.largest_aspect * short:
            raise Reject(
                "too_long",
                f"{width} x {height} pixels; the longer side may be {self.config.largest_aspect:g} times the shorter",
            )

    def _mask(self, data: bytes, size: tuple[int, int], orientation: int) -> bytes:
        mask = decode_mask(
            data, self.masks, size=size, orientation=orientation, largest_pixels=self.config.largest_pixels
        )
        # What is ignored is never inside, so that it is no region.
        return encode_mask(np.asarray(fit(Image.fromarray(mask.inside), self.size, smooth=False)))
