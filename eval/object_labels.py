"""Labels of objects from outside: an 8-bit grey image in which every object has a level of its own."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from actors.errors import Reject
from actors.image_file import load_image


def decode_objects(data: bytes, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Decodes labels of objects with the limits of `actors.image_file.load_image`.

    Args:
        data: an encoded PNG, or a lossless WebP.
        size: width and height of the upright image that they belong to.

    Returns:
        uint8 [H, W]: 0 for the background, from 1 on the objects.

    Raises:
        Reject: `bad_objects`, `objects_size`, or a reason of `load_image`.
    """
    loaded = load_image(data)
    if loaded.image.mode != "L" or loaded.bits != 8 or loaded.lossy:
        lossy = "lossy " if loaded.lossy else ""
        raise Reject(
            "bad_objects",
            f"found {lossy}mode {loaded.image.mode} of {loaded.bits} bits; labels of objects are an 8-bit grey PNG: "
            "0 for the background, a level from 1 on for each object",
        )
    if loaded.image.size != size or (loaded.orientation or 1) != 1:
        found = f"{loaded.size[0]} x {loaded.size[1]} pixels"
        if (loaded.orientation or 1) != 1:
            found += f" with EXIF orientation {loaded.orientation}"
        raise Reject(
            "objects_size",
            f"found {found}, and the upright image has {size[0]} x {size[1]}; make both of one size",
        )
    return np.array(loaded.image)
