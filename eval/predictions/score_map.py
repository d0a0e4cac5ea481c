"""Score maps from outside, decoded to float32: PNGs and arrays of NumPy, read with limits and never unpickled."""

from __future__ import annotations

import io
import re
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from actors.errors import Reject
from actors.image_file import LARGEST_PIXELS, decoding, load_image
from actors.masks import MaskReading, decode_mask

MAP, MASK = "map", "mask"
"""What a file holds: scores, or a mask, whose scores are 0 and 1."""

EXTENSIONS = {"map.png": MAP, "map.npy": MAP, "npy": MAP, "mask.png": MASK}
"""Of the files that hold scores, by what they hold."""

Scores = NDArray[np.float32]

_MODES = ("1", "L", "I;16")
_INTEGERS = (np.dtype(np.uint8), np.dtype(np.uint16))
_FLOATS = (np.dtype(np.float16), np.dtype(np.float32), np.dtype(np.float64))
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
_LONGEST_HEADER = 4096
_LOSSLESS = "save it as a PNG of one grey channel, with 8 or 16 bits"


def decode_scores(data: bytes, extension: str) -> Scores:
    """Decodes a file to the probability of an artifact, float32 [H, W], 0 to 1.

    Grey levels and unsigned integers are divided by the largest of their depth: 255 or 65535. Floating-point numbers
    are taken as they are.

    Args:
        data: the whole file, an image or an array as `numpy.save` writes it.
        extension: what it is called; `npy` or one that ends in it stands for an array, `mask.png` for a mask.

    Raises:
        Reject: it is damaged, of another form, too large, or has numbers that are not from 0 to 1.
        MemoryError: the machine's fault, not the file's.
    """
    if extension.endswith("npy"):
        return _from_array(_array(data))
    if EXTENSIONS.get(extension) == MASK:
        size = load_image(data).size
        return decode_mask(data, MaskReading(), size=size).inside.astype(np.float32)
    return _from_image(data)


def resized(scores: Scores, size: tuple[int, int]) -> Scores:
    """Scores brought to height and width `size` by bilinear interpolation, smoothed first where they are reduced."""
    height, width = size
    image = Image.fromarray(scores).resize((width, height), Image.Resampling.BILINEAR)
    within: Scores = np.clip(np.asarray(image), 0, 1)
    return within


def _from_image(data: bytes) -> Scores:
    loaded = load_image(data)
    image = loaded.image
    if image.format != "PNG":
        raise Reject("bad_map", f"it is a {image.format}, whose levels may not be exact; {_LOSSLESS}")
    if image.mode not in _MODES or "transparency" in image.info:
        raise Reject("bad_map", f"it is a PNG of mode {image.mode}; {_LOSSLESS}")
    with decoding():
        levels = np.asarray(image)
    if levels.dtype == np.bool_:
        return levels.astype(np.float32)
    return _shares(levels)


def _array(data: bytes) -> NDArray[Any]:
    """The array in a `.npy` file. Its header is checked before anything is allocated; objects are refused."""
    stream = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(stream)
        if version not in _HEADERS:
            raise ValueError(f"its format has the version {'.'.join(map(str, version))}")
        shape, by_column, kind = _HEADERS[version](stream, max_header_size=_LONGEST_HEADER)
    except MemoryError:
        raise
    except Exception as error:  # NumPy parses the header as Python and raises many kinds on damaged ones
        cause = re.sub(r"\s+", " ", str(error))[:200]
        raise Reject("damaged", f"it is not an array as numpy.save writes it: {cause}") from None
    if kind.hasobject:
        raise Reject("bad_map", "it holds Python objects, which are pickled; a pickle is never loaded")
    plain = kind.newbyteorder("=")
    if plain not in (*_INTEGERS, *_FLOATS):
        raise Reject("bad_map", f"it holds {kind.name}; save float32, float16, uint8 or uint16")
    sides = shape[1:] if len(shape) == 3 and shape[0] == 1 else shape
    if len(sides) != 2 or not all(side > 0 for side in sides):
        raise Reject("bad_map", f"its shape is {shape}; [H, W] is required")
    height, width = sides
    if height * width > LARGEST_PIXELS:
        raise Reject("too_many_pixels", f"{width} x {height} pixels; at most {LARGEST_PIXELS:,} are read")
    start, promised = stream.tell(), height * width * kind.itemsize
    if len(data) - start != promised:
        raise Reject(
            "damaged", f"it has {len(data) - start:,} bytes of numbers, its header promises {promised:,}"
        )
    values = np.frombuffer(data, kind, offset=start)
    return values.reshape(sides, order="F" if by_column else "C").astype(plain, copy=False)


def _shares(levels: NDArray[Any]) -> Scores:
    shares: Scores = levels.astype(np.float32) / np.float32(np.iinfo(levels.dtype).max)
    return shares


def _from_array(values: NDArray[Any]) -> Scores:
    if values.dtype in _INTEGERS:
        return _shares(values)
    unfit = np.count_nonzero(~np.isfinite(values))
    if unfit:
        raise Reject("not_finite", f"{unfit:,} of its numbers are NaN or infinite")
    low, high = float(np.min(values)), float(np.max(values))
    if low < 0 or high > 1:
        raise Reject(
            "out_of_range",
            f"its numbers go from {low:g} to {high:g}; probabilities from 0 to 1 are required: apply the sigmoid or "
            "softmax to logits, or divide by the largest level",
        )
    return values.astype(np.float32)
