"""Analysis by synthesis: the legal picture that comes nearest to an image.

The search starts at the picture that the caption demands, and may vary what a legal picture may vary: the place, the
size, every attribute's word. It never changes an object's kind, and never bends an object.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from itertools import product

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tinytown.render import SCALE, backdrop, draw, thing_numbers
from tinytown.scene import BACKGROUNDS, CHOICES, RADII, SIZE, Scene, Thing

CAP = 0.3
"""Difference (0..1) from which a pixel counts as no more wrong: an artifact must not pull the fit."""

MAIN_COLOUR = {
    "face": "skin",
    "hand": "skin",
    "clock": "rim",
    "car": "paint",
    "house": "wall",
    "tree": "leaf",
    "sign": "board",
}
"""The attribute that gives most of an object's colour."""

SMALLEST_RADIUS, LARGEST_RADIUS = 9.0, 22.0

_GOOD = 0.045
"""Mean difference inside an object's circle below which the search is over."""

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Placed:
    """An object as it was found: as a `Thing`, but standing anywhere.

    Attributes:
        kind: one of `scene.KINDS`.
        centre: (x, y) in pixels.
        radius: in pixels.
        attributes: (name, word), as of a `Thing`.
    """

    kind: str
    centre: tuple[float, float]
    radius: float
    attributes: tuple[tuple[str, str], ...]

    def __getitem__(self, name: str) -> str:
        return dict(self.attributes)[name]

    @property
    def colour(self) -> str:
        """The word of its main colour."""
        return self[MAIN_COLOUR[self.kind]]

    def saying(self, name: str, word: str) -> Placed:
        """The same object with another word for one attribute."""
        pairs = tuple((key, word if key == name else value) for key, value in self.attributes)
        return replace(self, attributes=pairs)


@dataclass(frozen=True)
class Legal:
    """The nearest legal picture.

    Attributes:
        background: one of `scene.BACKGROUNDS`.
        found: for every object of the scene, where it was found; None where nothing in the image is like it.
        image: uint8 [64, 64, 3], the picture of what was found.
        objects: uint8 [64, 64], 0 for the background, i + 1 where the scene's i-th object is seen in it.
    """

    background: str
    found: tuple[Placed | None, ...]
    image: NDArray[np.uint8]
    objects: NDArray[np.uint8]


def fit(image: NDArray[np.uint8], scene: Scene) -> Legal:
    """Finds the legal variation of a scene that comes nearest to an image.

    Args:
        image: uint8 [64, 64, 3].
        scene: what the caption asks for.
    """
    background = _background(image, scene.background)
    found: list[Placed | None] = [None] * len(scene.things)
    # What stands where the caption says is taken first, so that it cannot be mistaken for another of its kind.
    for anywhere in (False, True):
        for number, thing in enumerate(scene.things):
            if found[number] is None:
                found[number] = _place(_Stage(image, background, found), thing, anywhere=anywhere)
    for number, placed in enumerate(found):
        if placed is not None:
            others = [*found[:number], None, *found[number + 1 :]]
            stage = _Stage(image, background, others)
            placed = _settle(stage, placed)
            found[number] = placed if stage.cost(placed) < stage.total else None
    stage = _Stage(image, background, found)
    return Legal(background, tuple(found), stage.picture(), stage.objects())


class _Stage:
    """A background with some objects on it, on which one more is tried."""

    def __init__(self, image: NDArray[np.uint8], background: str, found: list[Placed | None]) -> None:
        self._canvas = backdrop(background)
        self._labels = Image.new("L", self._canvas.size)
        for number, placed in enumerate(found, start=1):
            if placed is not None:
                draw(placed, self._canvas, self._labels, number)
        self.background = background
        self.image = image
        self.without = _difference(image, self.picture())
        self.total = float(self.without.sum())

    def picture(self) -> NDArray[np.uint8]:
        return np.asarray(self._canvas.resize((SIZE, SIZE), Image.Resampling.LANCZOS))

    def objects(self) -> NDArray[np.uint8]:
        return thing_numbers(self._labels)

    def cost(self, placed: Placed) -> float:
        """Sum of the capped differences of the whole picture with one more object on it."""
        left, top, right, bottom = _window(placed)
        near = self.without[top:bottom, left:right]
        return self.total - float(near.sum()) + float(self._with(placed).sum())

    def error(self, placed: Placed) -> float:
        """Mean capped difference inside the object's circle."""
        left, top, right, bottom = _window(placed)
        y, x = np.mgrid[top:bottom, left:right]
        (cx, cy), r = placed.centre, placed.radius
        inside = (x + 0.5 - cx) ** 2 + (y + 0.5 - cy) ** 2 <= r * r
        return float(self._with(placed)[inside].mean())

    def _with(self, placed: Placed) -> Floats:
        left, top, right, bottom = _window(placed)
        crop = self._canvas.crop((SCALE * left, SCALE * top, SCALE * right, SCALE * bottom))
        (x, y), (width, height) = placed.centre, (right - left, bottom - top)
        draw(replace(placed, centre=(x - left, y - top)), crop, Image.new("L", crop.size))
        drawn = np.asarray(crop.resize((width, height), Image.Resampling.LANCZOS))
        return _difference(self.image[top:bottom, left:right], drawn)


def _place(stage: _Stage, thing: Thing, *, anywhere: bool) -> Placed | None:
    """The best place and words for an object; None where leaving it out explains the image better."""
    asked = Placed(
        thing.kind, (float(thing.centre[0]), float(thing.centre[1])), float(thing.radius), thing.attributes
    )
    if not anywhere:
        placed = _settle(stage, asked)
        good = stage.cost(placed) < stage.total and stage.error(placed) < _GOOD
        return placed if good else None
    candidates = [asked, *_look_everywhere(stage, thing)]
    moved = [_move(stage, candidate, (2.0, 1.0)) for candidate in candidates]
    best = sorted(moved, key=stage.cost)[:2]
    placed = min((_settle(stage, candidate) for candidate in best), key=stage.cost)
    return placed if stage.cost(placed) < stage.total else None


def _settle(stage: _Stage, placed: Placed) -> Placed:
    """Words and place in turns, until neither gets better."""
    before = float("inf")
    while (now := stage.cost(placed)) < before - 0.05:
        before = now
        placed = _move(stage, placed, (1.0, 0.5, 0.25))
        placed = _reword(stage, placed)
    return placed


def _move(stage: _Stage, placed: Placed, steps: tuple[float, ...]) -> Placed:
    """Pattern search over centre and radius, with ever smaller steps, in pixels."""
    cost = stage.cost(placed)
    for step in steps:
        better = True
        while better:
            better = False
            for other in _neighbours(placed, step):
                other_cost = stage.cost(other)
                if other_cost < cost - 1e-3:
                    placed, cost, better = other, other_cost, True
    return placed


def _neighbours(placed: Placed, step: float) -> Iterator[Placed]:
    x, y = placed.centre
    for dx, dy, dr in ((1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, -1, 0), (0, 0, 1), (0, 0, -1)):
        radius = placed.radius + dr * step
        centre = x + dx * step, y + dy * step
        if SMALLEST_RADIUS <= radius <= LARGEST_RADIUS and all(4 <= part <= SIZE - 4 for part in centre):
            yield replace(placed, centre=centre, radius=radius)


def _reword(stage: _Stage, placed: Placed) -> Placed:
    """The best word for every attribute, one after the other; hour and minute of a clock together."""
    axes = {"sign": ("board", 0, 1, 2), "clock": ("rim", "time")}.get(
        placed.kind, tuple(CHOICES[placed.kind])
    )
    for axis in axes:
        placed = min((placed, *_along(placed, axis)), key=stage.cost)
    return placed


def _along(placed: Placed, axis: str | int) -> Iterator[Placed]:
    """All variants of one attribute, of a clock's `time`, or of a sign's letter by its place."""
    choices = CHOICES[placed.kind]
    if isinstance(axis, int):
        letters = placed["letters"]
        for letter in choices["letters"]:
            yield placed.saying("letters", letters[:axis] + letter + letters[axis + 1 :])
    elif axis == "time":
        for hour, minute in product(choices["hour"], choices["minute"]):
            yield placed.saying("hour", hour).saying("minute", minute)
    else:
        for word in choices[axis]:
            yield placed.saying(axis, word)


def _window(placed: Placed) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of the pixels that an object can touch, with 2 pixels around."""
    (x, y), reach = placed.centre, placed.radius + 2
    return (
        max(0, math.floor(x - reach)),
        max(0, math.floor(y - reach)),
        min(SIZE, math.ceil(x + reach)),
        min(SIZE, math.ceil(y + reach)),
    )


def _difference(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> Floats:
    """The largest channel's difference of every pixel, 0..1, capped."""
    apart = np.abs(one.astype(np.float32) - other.astype(np.float32)).max(axis=2) / 255
    return np.minimum(apart, np.float32(CAP))


def _background(image: NDArray[np.uint8], asked: str) -> str:
    """The background that the caption asks for, unless another one is clearly nearer."""
    costs = {}
    for name in BACKGROUNDS:
        empty = np.asarray(backdrop(name).resize((SIZE, SIZE), Image.Resampling.LANCZOS))
        costs[name] = float(_difference(image, empty).sum())
    nearest = min(costs, key=costs.__getitem__)
    return nearest if costs[nearest] < 0.8 * costs[asked] else asked


@dataclass(frozen=True)
class _Templates:
    """Every look of a kind at every size, as transforms for a search over all places at once.

    Attributes:
        looks: N objects in the middle of the picture.
        masks: rfft2 of their masks, complex64 [N, 64, 33].
        colours: rfft2 of masked colours, complex64 [N, 3, 64, 33].
        energy: sum of squared masked colours, float32 [N].
    """

    looks: tuple[Placed, ...]
    masks: NDArray[np.complex64]
    colours: NDArray[np.complex64]
    energy: Floats


_COARSE = {"face": ("skin", "hair"), "sign": ("board",), "clock": ("rim",)}
"""Attributes that matter from afar; of other kinds all do."""


@cache
def _templates(kind: str) -> _Templates:
    first = tuple((name, words[0]) for name, words in CHOICES[kind].items())
    if kind == "sign":
        first = (first[0], ("letters", "EHN"))
    names = _COARSE.get(kind, tuple(CHOICES[kind]))
    looks, masks, colours = [], [], []
    for radius in RADII.values():
        for words in product(*(CHOICES[kind][name] for name in names)):
            look = Placed(kind, (SIZE / 2, SIZE / 2), float(radius), first)
            for name, word in zip(names, words, strict=True):
                look = look.saying(name, word)
            canvas = Image.new("RGB", (SIZE * SCALE, SIZE * SCALE))
            labels = Image.new("L", canvas.size)
            draw(look, canvas, labels)
            small = np.asarray(canvas.resize((SIZE, SIZE), Image.Resampling.LANCZOS), dtype=np.float32) / 255
            inside = np.asarray(labels.resize((SIZE, SIZE), Image.Resampling.NEAREST)) > 0
            looks.append(look)
            masks.append(inside.astype(np.float32))
            colours.append((small * inside[..., None]).transpose(2, 0, 1))
    stacked = np.stack(colours)
    return _Templates(
        tuple(looks),
        np.fft.rfft2(np.stack(masks)).astype(np.complex64),
        np.fft.rfft2(stacked).astype(np.complex64),
        (stacked**2).sum(axis=(1, 2, 3)),
    )


def _look_everywhere(stage: _Stage, thing: Thing) -> list[Placed]:
    """The best place of every size, by how much squared error an object would explain away there."""
    templates = _templates(thing.kind)
    scene = stage.picture().astype(np.float32) / 255
    seen = stage.image.astype(np.float32) / 255
    gain_without = ((seen - scene) ** 2).sum(axis=2) - (seen**2).sum(axis=2)
    spectrum = np.conj(templates.masks) * np.fft.rfft2(gain_without)
    spectrum += 2 * (np.conj(templates.colours) * np.fft.rfft2(seen.transpose(2, 0, 1))).sum(axis=1)
    gains = np.fft.irfft2(spectrum, s=(SIZE, SIZE)) - templates.energy[:, None, None]
    # A shift by n is a place at SIZE / 2 + n; those that would wrap around the picture's edge are left out.
    reach = SIZE // 2 - int(SMALLEST_RADIUS) + 3
    shifts = np.fft.fftfreq(SIZE, 1 / SIZE).astype(int)
    allowed = np.abs(shifts) <= reach
    gains[:, ~(allowed[:, None] & allowed[None, :])] = -np.inf
    best = []
    for first in range(0, len(templates.looks), len(templates.looks) // len(RADII)):
        some = gains[first : first + len(templates.looks) // len(RADII)]
        number, row, column = np.unravel_index(int(some.argmax()), some.shape)
        look = templates.looks[first + int(number)]
        centre = (SIZE / 2 + shifts[column], SIZE / 2 + shifts[row])
        best.append(replace(look, centre=centre))
    return best
