"""Regions of a COCO file as a mask. Every number comes from outside and is checked before it is used as one."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as pycoco

from actors.errors import Reject
from actors.masks import Mask
from eval.coco.annotations import Region

Crowd = Literal["ignore", "inside", "outside"]
Boxes = Literal["reject", "inside"]

MOST_STEPS = 20_000_000
"""Points of a fifth of a pixel along all polygons of a region, for each of which pycocotools takes 20 bytes."""

_STEPS_PER_PIXEL = 5
"""Of pycocotools' polygons, see `rleFrPoly` in its `maskApi.c`."""

_LONGEST_RUNS = re.compile(r"(?:[P-o]{0,6}[0-O])*+")
"""A compressed encoding: groups of 5 bits, of which all but the last of a number are above `O`; 7 hold 32 bits."""

_FIRST = ord("0")


@dataclass(frozen=True)
class Drawing:
    """What becomes of regions that are no plain artifacts.

    Attributes:
        crowd: pixels of crowds are ignored, inside, or outside.
        boxes: an annotation with a box alone rejects the image, or the box is inside.
    """

    crowd: Crowd = "ignore"
    boxes: Boxes = "reject"


def draw(regions: Iterable[Region], size: tuple[int, int], how: Drawing) -> Mask:
    """The union of regions. Where one is inside and another ignored, a pixel is inside.

    Args:
        regions: of an image.
        size: its width and height, which are those of an image that was decoded: masks of this size are made.
        how: see `Drawing`.

    Raises:
        Reject: `bad_polygon`, `bad_rle`, `bad_region`, `no_region` or `box_only`.
    """
    inside = np.zeros(size[::-1], np.bool_)
    ignored = np.zeros_like(inside)
    for number, region in enumerate(regions):
        if region.crowd and how.crowd == "outside":
            continue
        canvas = ignored if region.crowd and how.crowd == "ignore" else inside
        try:
            canvas |= _drawn(region, size, how)
        except Reject as why:
            raise Reject(why.reason, f"region {number} of the image: {why.detail}") from None
    ignored &= ~inside
    return Mask(inside, ignored if ignored.any() else None)


def _drawn(region: Region, size: tuple[int, int], how: Drawing) -> NDArray[np.bool_]:
    """bool [H, W] of one region."""
    what = region.segmentation
    if isinstance(what, dict):
        return _decoded(what, size)
    if isinstance(what, list) and what:
        return _filled(what if isinstance(what[0], list) else [what], size)
    if what is not None and what != []:
        raise Reject(
            "bad_region", f"its segmentation is a {type(what).__name__}, not polygons and no encoding"
        )
    if not region.box:
        raise Reject("no_region", "it has neither a segmentation nor a box")
    if how.boxes == "reject":
        raise Reject("box_only", "it has a box alone, and no segmentation; set boxes to inside to mark boxes")
    return _filled([_corners(region.box)], size)


def _corners(box: object) -> list[float]:
    """The polygon of a box."""
    if not isinstance(box, list) or len(box) != 4 or not all(map(_is_finite, box)):
        raise Reject("bad_region", "its box is not x, y, width and height")
    left, top, width, height = box
    return [left, top, left + width, top, left + width, top + height, left, top + height]


def _filled(polygons: Sequence[object], size: tuple[int, int]) -> NDArray[np.bool_]:
    steps = 0.0
    for polygon in polygons:
        steps += _checked_steps(polygon, size)
        if steps > MOST_STEPS:
            raise Reject(
                "bad_polygon",
                f"its polygons are longer than {MOST_STEPS // _STEPS_PER_PIXEL:,} pixels, far more than an outline is",
            )
    width, height = size
    encoded = pycoco.frPyObjects(polygons, height, width)
    return cast("NDArray[np.bool_]", pycoco.decode(pycoco.merge(encoded)) != 0)


def _checked_steps(polygon: object, size: tuple[int, int]) -> float:
    """How many points pycocotools makes of a polygon.

    Raises:
        Reject: `bad_polygon`.
    """
    if not isinstance(polygon, list) or len(polygon) < 6 or len(polygon) % 2:
        found = f"{len(polygon)} numbers" if isinstance(polygon, list) else f"a {type(polygon).__name__}"
        raise Reject("bad_polygon", f"a polygon is {found}; x and y of three points or more are wanted")
    if not all(map(_is_finite, polygon)):
        raise Reject("bad_polygon", "a coordinate of a polygon is no finite number")
    points = np.asarray(polygon, np.float64).reshape(-1, 2)
    # pycocotools computes with 32 bits, so that coordinates far outside would come out anywhere.
    if (points < -np.asarray(size)).any() or (points > 2 * np.asarray(size)).any():
        raise Reject(
            "bad_polygon",
            f"a polygon reaches from {points.min(axis=0).tolist()} to {points.max(axis=0).tolist()}, far outside the "
            f"image of {size[0]} x {size[1]} pixels; coordinates are in pixels of the image as it is",
        )
    sides = np.abs(points - np.roll(points, 1, axis=0)).max(axis=1)
    return float(_STEPS_PER_PIXEL * sides.sum() + len(points))


def _decoded(encoding: dict[str, Any], size: tuple[int, int]) -> NDArray[np.bool_]:
    """bool [H, W] of a run-length encoding, whose runs go down the columns, outside first.

    pycocotools is not asked: it takes runs that end too early, and gives what its memory holds for the rest.
    """
    width, height = size
    total = width * height
    if encoding.get("size") != [height, width]:
        raise Reject(
            "bad_rle",
            f"its encoding is of height and width {str(encoding.get('size'))[:60]}, the image is {height} x {width}",
        )
    counts = encoding.get("counts")
    if isinstance(counts, str):
        counts = _uncompressed(counts)
    if not isinstance(counts, list) or len(counts) > 2 * total + 2:
        raise Reject("bad_rle", f"its counts are no list and no text, or more than {2 * total + 2:,}")
    if not all(type(count) is int and 0 <= count <= total for count in counts) or sum(counts) != total:
        raise Reject("bad_rle", f"its counts are not lengths of runs that add up to {total:,} pixels")
    runs = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
    return np.ascontiguousarray(runs.reshape(width, height).T)


def _uncompressed(text: str) -> list[int]:
    """The lengths of runs in a compressed encoding, as `rleFrString` of pycocotools' `maskApi.c` defines it.

    A number is in groups of 5 bits, the lowest first, with the sign in the highest bit of the last; from the fourth
    number on it is the difference to the number two before.
    """
    if not _LONGEST_RUNS.fullmatch(text):
        raise Reject("bad_rle", "its counts are no text as COCO encodes it")
    counts: list[int] = []
    number = shift = 0
    for character in text:
        group = ord(character) - _FIRST
        number |= (group & 31) << shift
        shift += 5
        if group & 32:
            continue
        if group & 16:
            number -= 1 << shift
        counts.append(number + counts[-2] if len(counts) > 2 else number)
        number = shift = 0
    return counts


def _is_finite(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number that no float holds
        return False
