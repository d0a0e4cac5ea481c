"""A short hash that images which look alike share in most bits."""

from __future__ import annotations

from imagehash import phash
from PIL import Image

BITS = 64


def perceptual_hash(image: Image.Image) -> int:
    """The DCT hash of an image, 64 bits (imagehash's `phash`).

    Images that were only resized or recompressed differ in a few bits, unrelated ones in about half of them.
    """
    return int(str(phash(image)), 16)
