"""Decoding the images of a sample, after a check of their size: a PNG of 500 KB may hold 64 megapixels."""

from __future__ import annotations

import io
import struct

from PIL import Image

LARGEST_SIDE = 4096
"""Pixels; no recipe makes larger images. At three bytes a pixel such an image takes 48 MiB."""

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_HEADER = struct.Struct(">8s4x4sII")


def size_of(data: bytes) -> tuple[int, int]:
    """Width and height that a PNG's header states.

    Raises:
        ValueError: it is not a PNG.
    """
    if len(data) < _HEADER.size:
        raise ValueError("not a PNG")
    signature, name, width, height = _HEADER.unpack_from(data)
    if (signature, name) != (_SIGNATURE, b"IHDR"):
        raise ValueError("not a PNG")
    return int(width), int(height)


def check_size(data: bytes) -> tuple[int, int]:
    """Like `size_of`, and check that the image is small enough to be decoded.

    Raises:
        ValueError: it is not a PNG, or larger than what this project writes.
    """
    width, height = size_of(data)
    if max(width, height) > LARGEST_SIDE:
        raise ValueError(f"{width} x {height} pixels; at most {LARGEST_SIDE} x {LARGEST_SIDE} are decoded")
    return width, height


def check_preview(data: bytes, side: int) -> None:
    """Check a preview of the index: PNG, or JPEG where it was shrunk; no side above `side` pixels.

    Raises:
        ValueError: it is not a valid preview; the message has the reason.
    """
    if data.startswith(b"\xff\xd8\xff"):
        try:
            with Image.open(io.BytesIO(data), formats=("JPEG",)) as header:
                width, height = header.size
        except Exception as error:  # Pillow's header parsers raise many kinds on damaged files
            raise ValueError(f"cannot be decoded: {error}") from error
    else:
        width, height = size_of(data)
    if max(width, height) > side:
        raise ValueError(f"{width} x {height} pixels; at most {side} x {side} are kept")


def decode(data: bytes, side: int, mode: str) -> Image.Image:
    """Decode an image of the given size and mode. Images of other sizes are not decoded at all.

    Args:
        data: PNG.
        side: width and height in pixels.
        mode: of Pillow: `RGB`, or `1` for masks.

    Raises:
        ValueError: another size or mode, not a PNG, or damaged.
    """
    try:
        width, height = check_size(data)
    except ValueError as error:
        raise ValueError(f"cannot be decoded: {error}") from error
    if (width, height) != (side, side):
        raise ValueError(f"is {width} x {height} pixels, the recipe's are {side} x {side}")
    try:
        with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
            if image.mode != mode:
                raise ValueError(f"has the mode {image.mode}, written are {mode}")
            image.load()
            return image
    except (MemoryError, ValueError):
        raise
    except Exception as error:  # Pillow raises many kinds on damaged files
        raise ValueError(f"cannot be decoded: {error}") from error
