"""Previews: small versions of a sample's images, for the index and for pages."""

from __future__ import annotations

import io
from collections.abc import Mapping

import numpy as np
from PIL import Image

from actors.batch import Sample
from actors.images import encode_mask, read_image, read_mask
from factory.output.shards.images import check_preview, check_size

NAMES = ("before", "after", "mask", "changed", "judged")
PREVIEW_SIDE = 256
"""Largest side in pixels of the previews in an index."""

_MASKS = ("mask", "changed", "judged")
_JPEG = b"\xff\xd8\xff"


def shrink(images: Mapping[str, bytes | None], side: int) -> dict[str, bytes | None]:
    """Shrink images to at most `side` pixels a side.

    Those that fit already are returned unchanged. Larger images become JPEG, larger masks 1-bit PNG.

    Args:
        images: PNG by name; `mask`, `changed` and `judged` are masks. An image that was shrunk before may be JPEG.

    Raises:
        ValueError: an image is damaged, of another format, or too large to be decoded.
    """
    return {name: _shrunk(name, data, side) if data else None for name, data in images.items()}


def previews_of(sample: Sample, side: int) -> dict[str, bytes | None]:
    """The images of a sample as far as it has them, by the names of `NAMES`, shrunk as by `shrink`."""
    images = (sample.image, sample.corrupted, sample.mask, sample.changed, sample.judged)
    return shrink(dict(zip(NAMES, images, strict=True)), side)


def _shrunk(name: str, data: bytes, side: int) -> bytes:
    try:
        if data.startswith(_JPEG):  # from an index, already shrunk
            check_preview(data, side)
            return data
        return data if max(check_size(data)) <= side else _smaller(name, data, side)
    except OSError as error:  # what Pillow raises on damaged files
        raise ValueError(f"{name} cannot be decoded: {error}") from error
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def _smaller(name: str, data: bytes, side: int) -> bytes:
    if name in _MASKS:
        mask = Image.fromarray(read_mask(data))
        mask.thumbnail((side, side), Image.Resampling.NEAREST)
        return encode_mask(np.asarray(mask))
    image = Image.fromarray(read_image(data))
    image.thumbnail((side, side))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=85)
    return buffer.getvalue()
