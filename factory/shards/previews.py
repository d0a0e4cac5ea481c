"""Small versions of a sample's pictures, for the index and for pages."""

from __future__ import annotations

import io
from collections.abc import Mapping

import numpy as np
from PIL import Image

from actors.images import encode_mask, read_image, read_mask

NAMES = ("before", "after", "mask", "changed")
_MASKS = ("mask", "changed")


def shrink(pictures: Mapping[str, bytes | None], side: int) -> dict[str, bytes | None]:
    """The same pictures, none with a side above `side` pixels.

    What fits already is kept as it is. Larger images become JPEG, larger masks 1-bit PNG of the same size.

    Args:
        pictures: PNG by name; `mask` and `changed` are masks, the others images.
    """
    return {name: _shrunk(name, data, side) if data else None for name, data in pictures.items()}


def _shrunk(name: str, data: bytes, side: int) -> bytes:
    with Image.open(io.BytesIO(data), formats=("PNG",)) as header:
        if max(header.size) <= side:
            return data
    if name in _MASKS:
        mask = Image.fromarray(read_mask(data))
        mask.thumbnail((side, side), Image.Resampling.NEAREST)
        return encode_mask(np.asarray(mask))
    image = Image.fromarray(read_image(data))
    image.thumbnail((side, side))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=85)
    return buffer.getvalue()
