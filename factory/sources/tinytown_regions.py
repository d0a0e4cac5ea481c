"""Regions of a tinytown image: what a person would circle, drawn from the parts that the renderer knows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tinytown.render import PARTS, Picture
from tinytown.scene import Scene

KINDS = {"face": "face", "hand": "hand", "letter": "sign"}
"""Kind of object by the part that a recipe names."""

SMALLEST, LARGEST = 0.015, 0.30
"""Smallest and largest share of the image that all regions together cover."""

_TWO_OBJECTS = 0.3

Mask = NDArray[np.bool_]


def holds_any(scene: Scene, parts: tuple[str, ...]) -> bool:
    """Whether a scene has an object with one of the parts, so that it has a region."""
    return any(thing.kind in {KINDS[part] for part in parts} for thing in scene.things)


def draw_region(scene: Scene, rendered: Picture, parts: tuple[str, ...], rng: np.random.Generator) -> Mask:
    """A region on one object, or with probability 0.3 on two.

    Args:
        scene: it must hold an object with one of the parts.
        rendered: the rendered scene.
        parts: names in `KINDS`.
        rng: the only source of randomness.

    Returns:
        bool [64, 64].
    """
    kinds = {KINDS[part] for part in parts}
    numbers = [number for number, thing in enumerate(scene.things, start=1) if thing.kind in kinds]
    wanted = 2 if rng.random() < _TWO_OBJECTS else 1
    region = np.zeros(rendered.things.shape, dtype=np.bool_)
    for number in rng.permutation(numbers)[:wanted]:
        more = _one(scene.things[number - 1].kind, rendered, int(number), rng)
        if (region | more).mean() <= LARGEST:
            region |= more
    return region


def _one(kind: str, rendered: Picture, number: int, rng: np.random.Generator) -> Mask:
    """One of the regions that an object offers, drawn from those that are neither too small nor too large.

    Regions reach 1 or 2 pixels beyond the parts, since the parts' outlines break with them.
    """
    choices = _CHOICES[kind](rendered, number, int(rng.integers(1, 3)), rng)
    fitting = [mask for mask in choices if SMALLEST <= mask.mean() <= LARGEST]
    assert fitting, f"no region of object {number} fits: {[round(float(mask.mean()), 4) for mask in choices]}"
    return fitting[int(rng.integers(len(fitting)))]


def _face(rendered: Picture, number: int, reach: int, rng: np.random.Generator) -> list[Mask]:
    """The whole head, the eyes, the eyes with the nose, the mouth."""
    eyes = _part(rendered, number, "face.eye")
    nose = _part(rendered, number, "face.nose")
    mouth = _part(rendered, number, "face.mouth")
    choices = [rendered.things == number, _ellipse(eyes), _ellipse(eyes | nose), _ellipse(mouth)]
    return [_grow(choice, reach) for choice in choices]


def _hand(rendered: Picture, number: int, reach: int, rng: np.random.Generator) -> list[Mask]:
    """The whole hand, all fingers, the fingers of one side."""
    fingers = _part(rendered, number, "hand.finger")
    thumb = _part(rendered, number, "hand.thumb")
    _, (left, right) = _bounds(fingers)
    middle = (left + right) // 2
    columns = np.arange(fingers.shape[1])
    some = fingers & (columns <= middle if rng.random() < 0.5 else columns > middle)
    return [_grow(choice, reach) for choice in (rendered.things == number, fingers | thumb, some)]


def _sign(rendered: Picture, number: int, reach: int, rng: np.random.Generator) -> list[Mask]:
    """The box of all three letters, of two neighbours, of one; it never grows into a letter beside it."""
    (top, bottom), (left, right) = _bounds(_part(rendered, number, "sign.letter"))
    edges = np.linspace(left, right, 4)
    edges[0], edges[3] = max(0, left - reach), right + reach
    rows = slice(max(0, top - reach), bottom + reach)
    boxes = []
    for letters in (3, 2, 1):
        first = int(rng.integers(0, 4 - letters))
        box = np.zeros(rendered.parts.shape, dtype=np.bool_)
        box[rows, round(edges[first]) : round(edges[first + letters])] = True
        boxes.append(box)
    return boxes


_CHOICES = {"face": _face, "hand": _hand, "sign": _sign}


def _part(rendered: Picture, number: int, name: str) -> Mask:
    part: Mask = (rendered.things == number) & (rendered.parts == PARTS.index(name))
    return part


def _bounds(mask: Mask) -> tuple[tuple[int, int], tuple[int, int]]:
    """First row and row after the last, first column and column after the last."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return (int(rows[0]), int(rows[-1]) + 1), (int(columns[0]), int(columns[-1]) + 1)


def _ellipse(mask: Mask) -> Mask:
    """The ellipse around a mask's bounding box: taller by the root of two, but wider by a fifth only."""
    (top, bottom), (left, right) = _bounds(mask)
    y, x = np.ogrid[: mask.shape[0], : mask.shape[1]]
    across, down = 1.2 * (right - left) / 2, 1.42 * (bottom - top) / 2
    inside: Mask = (
        ((x + 0.5 - (left + right) / 2) / across) ** 2 + ((y + 0.5 - (top + bottom) / 2) / down) ** 2
    ) <= 1
    return inside


def _grow(mask: Mask, reach: int) -> Mask:
    """The mask and all pixels within a city-block distance of `reach`, which is at least 1."""
    from scipy import ndimage  # 0.2 s of start-up that no other source needs

    grown: Mask = ndimage.binary_dilation(mask, iterations=reach)
    return grown
