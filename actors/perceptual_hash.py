"""A few bits that pictures which look alike share."""

from __future__ import annotations

from imagehash import phash
from PIL import Image

BITS = 64


def perceptual_hash(picture: Image.Image) -> int:
    """The DCT hash of a picture, 64 bits (imagehash's `phash`).

    Pictures that were only resized or compressed again differ in a few bits, others in about half of them.
    """
    return int(str(phash(picture)), 16)
