"""Masks from outside: what is inside, and what is ignored. Levels are read by stated rules, or refused.

A mask is a PNG, a WebP or a JPEG in one of these forms:

- 0 and 1, or 0 and the largest level of its depth (1, 2, 4, 8 or 16 bits; 16 bits also with 0 and 255);
- 0 to 255 with anti-aliased edges: nearly all pixels are at the two ends, and the grey ones form no areas;
- a palette: its indices are the levels, 0 and 1; colours never count;
- three equal channels, which are read as one;
- 0 and 255 with 127 for what is ignored, where the PNG's text says so: masks of our own, see `actors.images`.

Anything else is a `bad_mask`. What is inside in masks of our own shards is also read by `actors.images.read_mask`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from actors.errors import Reject
from actors.image_file import LARGEST_PIXELS, TURNS, Loaded, check_memory, decoding, load_image
from actors.images import IGNORED_LEVEL, IGNORED_TEXT, strips

DARK, WHITE = 20, 235
"""Of 0 to 255: levels up to the one and from the other on are the two ends of a mask with soft edges."""

MOST_GREY = 0.25
"""Share of a mask's pixels that may be between the ends."""

MOST_GREY_PER_WHITE = 4
"""Grey pixels for each white one; a heat map has far more, a mask of thin lines about as many."""

_EXACT, _JPEG, _LOSSY_WEBP = 0.04, 0.12, 1.0
"""Largest share of the 3 x 3 squares of one level that may have a second level near an end, by compression. JPEGs of
masks have up to a tenth, and PNGs that were such JPEGs; lossy WebP has half. What has more holds class numbers."""

_INSIDE = 128
_MOST_SHOWN = 6
_LOSSY_TOLERANCE = 2
"""Levels by which the channels of a grey image differ after lossy compression."""

_OWN_REASONS = ("bad_mask", "mask_size", "orientation_unclear")
_MODES = ("1", "L", "P", "I;16", "LA", "RGB", "RGBA")

Levels = NDArray[np.uint8] | NDArray[np.uint16]


@dataclass(frozen=True)
class MaskReading:
    """How the masks of one source are to be read, where their files leave it open.

    Attributes:
        ignore_index: a level that is neither inside nor outside, such as 255 in mmseg; None if there is none.
        alpha: what transparency means: the region is where the mask is `opaque`, where it is `transparent`, or the
            colours count and transparency is to `ignore`. `refuse` rejects masks with transparent pixels.
        orientation: whether a mask without an EXIF orientation fits its image as `stored` or as `displayed`, where the
            image has one. None decides by the sizes where they differ, and else rejects.
    """

    ignore_index: int | None = None
    alpha: Literal["refuse", "opaque", "transparent", "ignore"] = "refuse"
    orientation: Literal["stored", "displayed"] | None = None


@dataclass(frozen=True)
class Mask:
    """A mask, upright.

    Attributes:
        inside: bool [H, W].
        ignored: bool [H, W], never where `inside` is; None if no pixel is.
    """

    inside: NDArray[np.bool_]
    ignored: NDArray[np.bool_] | None = None


@dataclass(frozen=True)
class _Stored:
    """The levels of a mask as its file holds them.

    Attributes:
        levels: [H, W], not turned.
        top: the largest level of the depth; 1 for a palette, whose other indices mean nothing.
        binary: whether 0 and 1 may be a pair of levels, and a level may be ignored; not so for alpha.
        form: mode and format, for messages.
        seconds: `_EXACT`, `_JPEG` or `_LOSSY_WEBP`.
    """

    levels: Levels
    top: int
    binary: bool
    form: str
    seconds: float


def decode_mask(
    data: bytes,
    reading: MaskReading,
    *,
    size: tuple[int, int],
    orientation: int = 1,
    largest_pixels: int = LARGEST_PIXELS,
) -> Mask:
    """Decodes a mask from outside.

    Args:
        data: an encoded file.
        reading: how it is to be read.
        size: width and height of its image, upright.
        orientation: EXIF orientation of its image, 1 to 8.
        largest_pixels: width times height above which the file is not decoded.

    Raises:
        Reject: `mask_` with the reasons of `actors.image_file.load_image`; `mask_size`; `orientation_unclear`;
            `bad_mask`, which names the mode and the levels that were found.
        MemoryError: the machine's fault, not the item's.
    """
    try:
        loaded = load_image(data, largest_pixels=largest_pixels)
        check_memory(loaded.image, 2)
        turn = _turn(loaded, size, orientation, reading)
        with decoding():
            stored = _stored(loaded, reading)
    except Reject as why:
        if why.reason in _OWN_REASONS:
            raise
        raise Reject(f"mask_{why.reason}", f"the mask: {why.detail}") from None
    if loaded.lossy and reading.ignore_index is not None:
        raise _bad(f"{stored.form}, whose compression keeps no exact levels for ignore_index; use PNG")
    ignore_index = reading.ignore_index
    if ignore_index is None and loaded.image.info.get(IGNORED_TEXT) == str(IGNORED_LEVEL):
        ignore_index = IGNORED_LEVEL
    del loaded
    mask = _read(stored, ignore_index if stored.binary else None)
    if turn in TURNS:
        parts = (mask.inside, mask.ignored)
        turned = [None if part is None else _turned(part, TURNS[turn]) for part in parts]
        assert turned[0] is not None
        mask = Mask(turned[0], turned[1])
    return mask


def _turn(loaded: Loaded, size: tuple[int, int], orientation: int, reading: MaskReading) -> int:
    """The EXIF orientation by which the mask is turned upright."""
    stored = size if orientation < 5 else size[::-1]
    if loaded.orientation is not None:
        turn = loaded.orientation
    elif orientation == 1 or reading.orientation == "displayed":
        turn = 1
    elif reading.orientation == "stored" or (loaded.size == stored != size):
        turn = orientation
    elif stored == size == loaded.size:
        raise Reject(
            "orientation_unclear",
            f"the image has the EXIF orientation {orientation} and its mask has none, so that the mask may fit the "
            "image as stored or as displayed: set the orientation of masks to stored or displayed",
        )
    else:
        turn = 1
    width, height = loaded.size if turn < 5 else loaded.size[::-1]
    if (width, height) != size:
        raise Reject(
            "mask_size",
            f"the mask is {width} x {height} pixels, the image {size[0]} x {size[1]} (both upright)",
        )
    return turn


def _turned(array: NDArray[np.bool_], how: Image.Transpose) -> NDArray[np.bool_]:
    return np.asarray(Image.fromarray(array).transpose(how))


def _stored(loaded: Loaded, reading: MaskReading) -> _Stored:
    image, bits = loaded.image, loaded.bits
    form = f"a {image.format} of mode {image.mode}" + (f" with {bits} bits" if bits not in (1, 8) else "")
    if image.mode not in _MODES or (bits == 16 and len(image.getbands()) > 1):
        raise _bad(f"{form}; a mask is 1-bit, grey, palette, or has three equal channels of 8 bits")
    top = 1 if image.mode in ("1", "P") else (1 << bits) - 1
    seconds = _EXACT if not loaded.lossy else _LOSSY_WEBP if image.format == "WEBP" else _JPEG
    if image.has_transparency_data and reading.alpha != "ignore":
        alpha = _alpha(image, bits)
        if reading.alpha != "refuse":
            inverse = reading.alpha == "transparent"
            return _Stored(255 - alpha if inverse else alpha, 255, False, f"the alpha of {form}", seconds)
        if alpha.min() < 255:
            raise _bad(
                f"{form} with transparent pixels (alpha from {alpha.min()}): set the alpha of masks to opaque or "
                "transparent, where the region is, or to ignore"
            )
    levels = np.empty((image.height, image.width), np.uint16 if top > 255 else np.uint8)
    for rows, pixels in _strips_of(image):
        if image.mode.startswith("RGB"):
            _check_grey(pixels, form, _LOSSY_TOLERANCE if loaded.lossy else 0)
        levels[rows] = pixels if pixels.ndim == 2 else pixels[..., 0]
        if image.mode == "L" and bits < 8:  # Pillow spreads them over 0 to 255
            levels[rows] //= 255 // top
    return _Stored(levels, top, True, form, seconds)


def _strips_of(image: Image.Image) -> Iterator[tuple[slice, NDArray[np.uint8]]]:
    for first, end in strips(*image.size):
        yield slice(first, end), np.asarray(image.crop((0, first, image.width, end)))


def _check_grey(pixels: NDArray[np.uint8], form: str, tolerance: int) -> None:
    red, green, blue = (pixels[..., channel] for channel in range(3))
    highest, lowest = np.maximum(np.maximum(red, green), blue), np.minimum(np.minimum(red, green), blue)
    coloured = highest - lowest > tolerance
    if coloured.any():
        found = tuple(int(level) for level in pixels[coloured][0][:3])
        raise _bad(f"{form} with colours such as {found}; a mask has one channel, or three equal ones")


def _alpha(image: Image.Image, bits: int) -> NDArray[np.uint8]:
    """uint8 [H, W] from a channel of its own, or from a PNG's `tRNS`."""
    clear: Any = image.info.get("transparency")
    if image.mode == "L" and bits < 8:  # Pillow spreads the levels over 0 to 255, but not that of `tRNS`
        clear *= 255 // ((1 << bits) - 1)
    alphas = np.full(256, 255, np.uint8)
    if image.mode == "P" and isinstance(clear, bytes):
        alphas[: len(clear)] = np.frombuffer(clear[:256], np.uint8)
    elif image.mode == "P":
        alphas[clear : clear + 1] = 0
    alpha = np.empty((image.height, image.width), np.uint8)
    for rows, pixels in _strips_of(image):
        if image.mode in ("LA", "RGBA"):
            alpha[rows] = pixels[..., -1]
        elif image.mode == "P":
            alpha[rows] = alphas[pixels]
        else:
            is_clear = pixels == np.asarray(clear > 0 if image.mode == "1" else clear)
            alpha[rows] = np.where(is_clear.all(axis=2) if pixels.ndim == 3 else is_clear, 0, 255)
    return alpha


def _read(stored: _Stored, ignore_index: int | None) -> Mask:
    levels, top, exact = stored.levels, stored.top, stored.seconds == _EXACT
    histogram = _histogram(levels)
    ignored = None
    if ignore_index is not None and ignore_index < len(histogram):
        ignored = levels == ignore_index if histogram[ignore_index] else None
        histogram[ignore_index] = 0
    found = set(np.flatnonzero(histogram).tolist())
    if found <= {0}:
        return Mask(np.zeros(levels.shape, np.bool_), ignored)
    if found <= {0, 1} and stored.binary and exact:
        return _mask(levels == 1, ignored)
    for high in {top, min(top, 255)} - {1}:
        if found <= {0, high}:
            return _mask(levels == high, ignored)
    unit = _unit(found, top)
    if unit is not None:
        areas = _areas(levels)
        if ignore_index is not None:
            areas[ignore_index : ignore_index + 1] = 0
        if _has_soft_edges(histogram[: 256 * unit : unit], areas[: 256 * unit : unit], stored.seconds):
            return _mask(levels >= _INSIDE * unit, ignored)
    raise _bad(
        f"{stored.form} with the levels {_shown(histogram)}; a mask has 0 and 1, or 0 and {max(top, 1)}, where grey "
        "levels are on the edges of regions only. Name a level that is to be ignored as ignore_index, or convert it"
    )


def _mask(inside: NDArray[np.bool_], ignored: NDArray[np.bool_] | None) -> Mask:
    if ignored is not None:
        inside &= ~ignored
    return Mask(inside, ignored)


def _histogram(levels: Levels) -> NDArray[np.int64]:
    bins = np.iinfo(levels.dtype).max + 1
    total = np.zeros(bins, np.int64)
    for first, end in strips(levels.shape[1], levels.shape[0]):
        total += np.bincount(levels[first:end].ravel(), minlength=bins)
    return total


def _areas(levels: Levels) -> NDArray[np.int64]:
    """How many 3 x 3 squares of one level there are, by level. An area has some; an edge has none."""
    height, width = levels.shape
    bins = np.iinfo(levels.dtype).max + 1
    total = np.zeros(bins, np.int64)
    for first, end in strips(width, max(0, height - 2)):
        part = levels[first : end + 2]
        row = (part[:, :-2] == part[:, 1:-1]) & (part[:, 1:-1] == part[:, 2:])
        below = part[:-1, 1:-1] == part[1:, 1:-1]
        equal = row[:-2] & row[1:-1] & row[2:] & below[:-1] & below[1:]
        total += np.bincount(part[1:-1, 1:-1][equal], minlength=bins)
    return total


def _unit(found: set[int], top: int) -> int | None:
    """What one of 256 levels counts in the file: 16 bits hold 8 as they are, or times 257; None if they do not."""
    if top in (255, 65535) and max(found) <= 255:
        return 1
    return 257 if top == 65535 and all(level % 257 == 0 for level in found) else None


def _has_soft_edges(counts: NDArray[np.int64], areas: NDArray[np.int64], most_seconds: float) -> bool:
    """Whether a mask has two levels and soft edges, and does not hold class numbers, a heat map or a photo.

    Args:
        counts: int64 [256], pixels by level.
        areas: int64 [256], see `_areas`.
        most_seconds: see `_EXACT`. Where levels are exact, a single level between the ends is a class of its own,
            and so are many low levels without high ones, as in 0, 1, 2 and 255.
    """
    dark, grey, white = counts[: DARK + 1], counts[DARK + 1 : WHITE].sum(), counts[WHITE:]
    if not dark.any() or not white.any() or areas[DARK + 1 : WHITE].any():
        return False
    if grey > MOST_GREY * counts.sum() or grey > MOST_GREY_PER_WHITE * white.sum():
        return False
    seconds = areas.sum() - areas[: DARK + 1].max() - areas[WHITE:].max()
    if seconds > most_seconds * areas.sum():
        return False
    if most_seconds != _EXACT:
        return True
    return bool(np.count_nonzero(counts[1:255]) > 1 and (white[:-1].any() or dark[1:].sum() <= grey))


def _shown(histogram: NDArray[np.int64]) -> str:
    found = np.flatnonzero(histogram)
    some = [f"{level} ({histogram[level] / histogram.sum():.1%})" for level in found[:_MOST_SHOWN]]
    more = len(found) - len(some)
    return ", ".join(some) + (f" and {more} more up to {found[-1]}" if more else "")


def _bad(detail: str) -> Reject:
    return Reject("bad_mask", f"the mask is {detail}")
