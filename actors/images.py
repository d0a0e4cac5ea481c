"""Images to arrays and back, decoded with limits: bytes from outside are never trusted."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from actors.image_file import LARGE, LARGEST_PIXELS, TURNS, Loaded, check_memory, decoding, load_image

STRIP = 1 << 22
"""Pixels that are converted at a time, so that no second copy of a large image is made."""


IGNORED_LEVEL = 127
"""Level of pixels about which nothing is known, in masks of our own that have some; below 128, so not inside."""

IGNORED_TEXT = "ignored level"
"""Keyword of the PNG text that states the ignored level of such a mask, so that every reader of masks knows it."""


@dataclass(frozen=True)
class Decoded:
    """An image from outside.

    Attributes:
        image: upright 8-bit RGB without metadata; smaller than `size` if it was reduced.
        size: width and height of the upright image in its file.
        orientation: 1 to 8, as the file's EXIF states it; 1 without a valid tag.
    """

    image: Image.Image
    size: tuple[int, int]
    orientation: int


def decode_image(data: bytes, *, largest_pixels: int = LARGEST_PIXELS) -> Image.Image:
    """Decodes an image from outside to upright 8-bit RGB, without metadata; see `decode`."""
    return decode(data, largest_pixels=largest_pixels).image


def decode(data: bytes, *, largest_pixels: int = LARGEST_PIXELS, needed: int | None = None) -> Decoded:
    """Decodes an image from outside.

    EXIF rotation is applied, transparency is laid over white, CMYK, grey, palette and 16-bit are converted.
    Colour profiles are not applied.

    Args:
        data: an encoded PNG, JPEG or WebP file.
        largest_pixels: width times height above which the file is not decoded.
        needed: side of the square that is made of it. An image of more than `LARGE` pixels is then reduced while
            it is decoded and converted, which takes less memory; None never reduces.

    Raises:
        Reject: see `actors.image_file.load_image`; `too_many_pixels` also where decoding takes more than
            `MOST_MEMORY` bytes.
        MemoryError: the machine's fault, not the item's.
    """
    loaded = load_image(data, largest_pixels=largest_pixels, needed=needed)
    size, orientation = loaded.size, loaded.orientation or 1
    with decoding():
        image = _to_rgb(loaded)
    del loaded
    if orientation in TURNS:
        check_memory(image, 4)
        image = image.transpose(TURNS[orientation])
    image.info = {}
    return Decoded(image, size if orientation < 5 else size[::-1], orientation)


def fit(image: Image.Image, size: int, *, smooth: bool = True) -> Image.Image:
    """The largest centred square, resized to `size` x `size`; `smooth=False` takes the nearest, for masks."""
    if image.size == (size, size):
        return image
    # ImageOps.fit crops at half pixels, and its filter reaches beyond the square: other pixels.
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    box = (left, top, left + side, top + side)
    method = Image.Resampling.LANCZOS if smooth else Image.Resampling.NEAREST
    if image.width * image.height > LARGE:
        return image.resize((size, size), method, box=box)  # a crop would be a second large image
    return image.crop(box).resize((size, size), method)


def encode_image(image: Image.Image | NDArray[np.uint8]) -> bytes:
    """PNG at compression level 1, without metadata. Arrays are uint8 [H, W, 3], RGB."""
    return _png(image if isinstance(image, Image.Image) else Image.fromarray(image))


def encode_mask(mask: NDArray[np.bool_], ignored: NDArray[np.bool_] | None = None) -> bytes:
    """A PNG of a mask: of 1 bit, or of 8 bits where pixels are ignored, see `IGNORED_LEVEL`.

    Args:
        mask: bool [H, W].
        ignored: bool [H, W], pixels about which nothing is known; pixels of the mask are never ignored.
    """
    levels = mask.astype(np.uint8) * 255
    if ignored is None or not (ignored & ~mask).any():
        return _png(Image.fromarray(levels).convert("1", dither=Image.Dither.NONE))
    levels[ignored & ~mask] = IGNORED_LEVEL
    text = PngInfo()
    text.add_text(IGNORED_TEXT, str(IGNORED_LEVEL))
    return _png(Image.fromarray(levels), text)


def encode_scores(scores: NDArray[np.floating]) -> bytes:
    """A 16-bit grey PNG of scores [H, W] from 0 to 1: level 65535 is 1."""
    return _png(Image.fromarray(np.rint(scores.astype(np.float64) * 65535).astype(np.uint16)))


def read_image(data: bytes) -> NDArray[np.uint8]:
    """uint8 [H, W, 3] of an image that this project encoded."""
    with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
        return np.asarray(image.convert("RGB"))


def read_mask(data: bytes) -> NDArray[np.bool_]:
    """bool [H, W] of a mask that this project encoded."""
    with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
        return np.asarray(image.convert("L")) >= 128


def strips(width: int, height: int, multiple: int = 1) -> Iterator[tuple[int, int]]:
    """First row and end of strips of about `STRIP` pixels, each but the last a multiple of rows high."""
    rows = max(1, STRIP // width // multiple) * multiple
    for top in range(0, height, rows):
        yield top, min(top + rows, height)


def _to_rgb(loaded: Loaded) -> Image.Image:
    """RGB, reduced as far as the decoder did not; strip by strip, so that there is no second large image."""
    image, factor = loaded.image, loaded.reduction
    if image.mode == "RGB" and "transparency" not in image.info and factor == 1:
        return image
    check_memory(image, 4 / factor**2)
    rgb = Image.new("RGB", (-(-image.width // factor), -(-image.height // factor)))
    for top, end in strips(*image.size, factor):
        strip = _strip_to_rgb(image.crop((0, top, image.width, end)))
        rgb.paste(strip.reduce(factor) if factor > 1 else strip, (0, top // factor))
    return rgb


def _strip_to_rgb(image: Image.Image) -> Image.Image:
    transparent = image.info.get("transparency")
    if image.mode.startswith("I"):
        levels = np.asarray(image).astype(np.uint32)
        grey = ((levels * 255 + 32767) // 65535).astype(np.uint8)
        if isinstance(transparent, int):
            grey[levels == transparent] = 255
        return Image.fromarray(grey).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA") or transparent is not None:
        over = image.convert("RGBA")
        white = Image.new("RGBA", over.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, over).convert("RGB")
    return image.convert("RGB")


def _png(image: Image.Image, text: PngInfo | None = None) -> bytes:
    buffer, bare = io.BytesIO(), image.copy()
    bare.info = {}  # or Pillow writes it again: the colour profile of a CMYK photo into an RGB file
    bare.save(buffer, "PNG", compress_level=1, pnginfo=text)
    return buffer.getvalue()
