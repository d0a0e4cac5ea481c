"""The renderer: a scene to its picture, with a mask of every part. Drawn at four times the size, then reduced."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from tinytown.scene import NUMBERS, SIZE, Scene

SCALE = 4
HORIZON = 40

PARTS = (
    "background",
    "face.skin",
    "face.hair",
    "face.eye",
    "face.nose",
    "face.mouth",
    "hand.palm",
    "hand.finger",
    "hand.thumb",
    "clock.rim",
    "clock.dial",
    "clock.hand",
    "car.body",
    "car.window",
    "car.wheel",
    "house.wall",
    "house.roof",
    "house.door",
    "house.window",
    "tree.crown",
    "tree.trunk",
    "sign.board",
    "sign.letter",
    "sign.pole",
)
"""Names of the part classes; a part's number is its place in this tuple."""

_PART_NUMBER = {name: number for number, name in enumerate(PARTS)}

_SKIES = {
    "day": ((112, 184, 240), (176, 222, 250), (104, 172, 84)),
    "night": ((24, 28, 68), (58, 58, 104), (34, 58, 54)),
    "sunset": ((250, 152, 92), (252, 196, 130), (112, 82, 110)),
    "desert": ((132, 200, 236), (214, 236, 244), (226, 200, 142)),
    "snow": ((164, 188, 222), (208, 220, 238), (242, 246, 252)),
}
"""Colour of the sky at the top and at the horizon, and of the ground."""

_SKIN = {"pale": (250, 214, 184), "tan": (224, 170, 124), "brown": (164, 108, 72), "dark": (104, 66, 48)}
_HAIR = {
    "black": (30, 26, 30),
    "brown": (92, 56, 34),
    "blond": (236, 200, 104),
    "red": (190, 76, 36),
    "grey": (168, 168, 176),
}
_PAINT = {
    "black": (34, 34, 40),
    "red": (206, 48, 48),
    "orange": (240, 136, 36),
    "yellow": (248, 212, 64),
    "green": (56, 148, 76),
    "blue": (52, 96, 200),
    "white": (248, 248, 248),
    "purple": (138, 92, 176),
    "brown": (128, 78, 50),
    "pink": (240, 150, 184),
}
_INK = (36, 30, 40)

Colour = tuple[int, int, int]
Point = tuple[float, float]


@dataclass(frozen=True)
class Picture:
    """A rendered scene.

    Attributes:
        image: uint8 [64, 64, 3], RGB.
        parts: uint8 [64, 64], index into `PARTS`.
        things: uint8 [64, 64], 0 for the background, i + 1 for the scene's i-th object.
    """

    image: NDArray[np.uint8]
    parts: NDArray[np.uint8]
    things: NDArray[np.uint8]


class Object(Protocol):
    """What can be drawn: a `scene.Thing`, or anything that also stands between the grid's points.

    Attributes:
        kind: one of `scene.KINDS`.
        centre: (x, y) in pixels.
        radius: of the circle that holds it, in pixels.
    """

    @property
    def kind(self) -> str: ...

    @property
    def centre(self) -> tuple[float, float]: ...

    @property
    def radius(self) -> float: ...

    def __getitem__(self, name: str) -> str:
        """The word of an attribute."""


def draw(thing: Object, canvas: Image.Image, labels: Image.Image, number: int = 1) -> None:
    """Draws an object onto a canvas and its labels, both `SCALE` times as wide as the picture.

    Args:
        thing: what to draw.
        canvas: RGB.
        labels: mode `L`; a pixel of part p becomes `number * 32 + p`.
        number: 1 for the first object of a scene.
    """
    _DRAW[thing.kind](_Pen(canvas, labels, thing, number), thing)


def render(scene: Scene) -> Picture:
    """Draws a scene; the same scene gives the same bytes."""
    canvas = backdrop(scene.background)
    labels = Image.new("L", canvas.size, 0)
    for number, thing in enumerate(scene.things, start=1):
        draw(thing, canvas, labels, number)
    image = canvas.resize((SIZE, SIZE), Image.Resampling.LANCZOS)
    label = _majority(np.asarray(labels))
    return Picture(np.asarray(image), label & np.uint8(31), label >> np.uint8(5))


def thing_numbers(labels: Image.Image) -> NDArray[np.uint8]:
    """The number of the object that `draw` left on each pixel of the labels, uint8 [64, 64]; 0 where none is."""
    numbers: NDArray[np.uint8] = _majority(np.asarray(labels)) >> np.uint8(5)
    return numbers


class _Pen:
    """Draws in an object's own coordinates (its circle has radius 1), on the picture and on the labels alike."""

    def __init__(self, canvas: Image.Image, labels: Image.Image, thing: Object, number: int) -> None:
        self._colour = ImageDraw.Draw(canvas)
        self._label = ImageDraw.Draw(labels)
        self._centre = (thing.centre[0] * SCALE, thing.centre[1] * SCALE)
        self._radius = thing.radius * SCALE
        self._tag = number << 5

    def _points(self, points: Sequence[Point]) -> list[Point]:
        (cx, cy), r = self._centre, self._radius
        return [(cx + x * r, cy + y * r) for x, y in points]

    def _tagged(self, part: str) -> int:
        return self._tag | _PART_NUMBER[part]

    def polygon(self, part: str, points: Sequence[Point], fill: Colour) -> None:
        spots = self._points(points)
        self._colour.polygon(spots, fill=fill)
        self._label.polygon(spots, fill=self._tagged(part))

    def box(self, part: str, left: float, top: float, right: float, bottom: float, fill: Colour) -> None:
        self.polygon(part, [(left, top), (right, top), (right, bottom), (left, bottom)], fill)

    def ellipse(self, part: str, x: float, y: float, rx: float, ry: float, fill: Colour) -> None:
        spots = self._points([(x - rx, y - ry), (x + rx, y + ry)])
        self._colour.ellipse(spots, fill=fill)
        self._label.ellipse(spots, fill=self._tagged(part))

    def chord(self, part: str, x: float, y: float, rx: float, ry: float, angles: Point, fill: Colour) -> None:
        spots = self._points([(x - rx, y - ry), (x + rx, y + ry)])
        self._colour.chord(spots, angles[0], angles[1], fill=fill)
        self._label.chord(spots, angles[0], angles[1], fill=self._tagged(part))

    def line(self, part: str, start: Point, end: Point, width: float, fill: Colour) -> None:
        """A stroke with round ends; `width` in the object's own units."""
        pixels = max(1, round(width * self._radius))
        for draw, ink in ((self._colour, fill), (self._label, self._tagged(part))):
            spots = self._points([start, end])
            draw.line(spots, fill=ink, width=pixels)
            for x, y in spots:
                h = pixels / 2
                draw.ellipse((x - h, y - h, x + h, y + h), fill=ink)


def backdrop(name: str) -> Image.Image:
    """Sky and ground without objects, RGB, `SCALE` times as wide as the picture."""
    top, bottom, ground = (np.array(colour, dtype=np.float64) for colour in _SKIES[name])
    side, horizon = SIZE * SCALE, HORIZON * SCALE
    rows = np.empty((side, 3))
    slope = np.linspace(0.0, 1.0, horizon)[:, None]
    rows[:horizon] = top + slope * (bottom - top)
    rows[horizon:] = ground
    return Image.fromarray(np.repeat(np.round(rows).astype(np.uint8)[:, None, :], side, axis=1))


def _majority(fine: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The most frequent label of every 4x4 block; of equals, the larger number."""
    values = np.unique(fine)
    blocks = fine.reshape(SIZE, SCALE, SIZE, SCALE)
    counts = np.stack([(blocks == value).sum(axis=(1, 3)) for value in values])
    last = len(values) - 1 - counts[::-1].argmax(axis=0)
    return values[last]


def _shade(colour: Colour, factor: float) -> Colour:
    red, green, blue = (min(255, round(channel * factor)) for channel in colour)
    return red, green, blue


def _face(pen: _Pen, face: Object) -> None:
    skin, hair = _SKIN[face["skin"]], _HAIR[face["hair"]]
    pen.ellipse("face.hair", 0, -0.12, 0.9, 0.86, hair)
    pen.ellipse("face.skin", 0, 0.16, 0.74, 0.82, skin)
    pen.chord("face.hair", 0, -0.02, 0.8, 0.82, (205, 335), hair)
    for side in (-1, 1):
        pen.ellipse("face.eye", side * 0.32, 0.04, 0.19, 0.16, (255, 255, 255))
        pen.ellipse("face.eye", side * 0.32, 0.05, 0.1, 0.12, _INK)
    pen.line("face.nose", (0, 0.2), (0, 0.36), 0.1, _shade(skin, 0.72))
    lips = (168, 36, 52)
    if face["mouth"] == "smile":
        pen.chord("face.mouth", 0, 0.5, 0.36, 0.26, (0, 180), lips)
    elif face["mouth"] == "frown":
        pen.chord("face.mouth", 0, 0.76, 0.36, 0.24, (180, 360), lips)
    else:
        pen.ellipse("face.mouth", 0, 0.64, 0.17, 0.19, lips)


FINGERS = (
    ((-0.33, 0.1), (-0.56, -0.52)),
    ((-0.11, 0.0), (-0.2, -0.8)),
    ((0.12, 0.0), (0.17, -0.82)),
    ((0.33, 0.1), (0.52, -0.6)),
)
"""Root and tip of the four fingers of a left hand (thumb on the right), in the object's own units."""

THUMB = ((0.3, 0.5), (0.8, 0.06))


def _hand(pen: _Pen, hand: Object) -> None:
    skin = _SKIN[hand["skin"]]
    edge = _shade(skin, 0.55)
    mirror = 1 if hand["side"] == "left" else -1
    strokes = [("hand.finger", *finger, 0.24) for finger in FINGERS] + [("hand.thumb", *THUMB, 0.26)]
    for grow, colour in ((0.1, edge), (0.0, skin)):
        if grow:
            pen.ellipse("hand.palm", 0, 0.42, 0.5 + grow / 2, 0.52 + grow / 2, colour)
        for part, (x0, y0), (x1, y1), width in strokes:
            pen.line(part, (mirror * x0, y0), (mirror * x1, y1), width + grow, colour)
        if not grow:
            pen.ellipse("hand.palm", 0, 0.42, 0.5, 0.52, colour)


def _clock(pen: _Pen, clock: Object) -> None:
    hour = NUMBERS.index(clock["hour"])
    half = clock["minute"] == "thirty"
    pen.ellipse("clock.rim", 0, 0, 0.96, 0.96, _PAINT[clock["rim"]])
    pen.ellipse("clock.dial", 0, 0, 0.76, 0.76, (252, 250, 240))
    for tick in range(4):
        angle = math.radians(90 * tick)
        near, far = 0.6, 0.68
        pen.line(
            "clock.dial",
            (near * math.sin(angle), -near * math.cos(angle)),
            (far * math.sin(angle), -far * math.cos(angle)),
            0.08,
            (120, 120, 124),
        )
    for turn, length, width in (((hour + half / 2) / 12, 0.36, 0.15), (half / 2, 0.54, 0.1)):
        angle = 2 * math.pi * turn
        pen.line("clock.hand", (0, 0), (length * math.sin(angle), -length * math.cos(angle)), width, _INK)


def _car(pen: _Pen, car: Object) -> None:
    paint = _PAINT[car["paint"]]
    mirror = 1 if car["facing"] == "right" else -1
    cabin = [(-0.62, -0.06), (-0.44, -0.5), (0.2, -0.5), (0.46, -0.06)]
    glass = [(-0.46, -0.08), (-0.34, -0.38), (0.12, -0.38), (0.3, -0.08)]
    pen.polygon("car.body", [(mirror * x, y) for x, y in cabin], paint)
    pen.polygon("car.window", [(mirror * x, y) for x, y in glass], (196, 226, 244))
    pen.box("car.body", -0.92, -0.1, 0.92, 0.36, paint)
    pen.box("car.body", mirror * 0.78, 0.0, mirror * 0.92, 0.14, (255, 244, 170))
    for x in (-0.5, 0.5):
        pen.ellipse("car.wheel", x, 0.36, 0.25, 0.25, _INK)
        pen.ellipse("car.wheel", x, 0.36, 0.11, 0.11, (196, 196, 204))


def _house(pen: _Pen, house: Object) -> None:
    wall = _PAINT[house["wall"]]
    pen.box("house.wall", -0.66, -0.16, 0.66, 0.76, wall)
    pen.polygon("house.roof", [(-0.86, -0.12), (0, -0.88), (0.86, -0.12)], _PAINT[house["roof"]])
    pen.box("house.door", -0.16, 0.24, 0.16, 0.76, (84, 54, 40))
    for x in (-0.42, 0.42):
        pen.box("house.window", x - 0.14, 0.06, x + 0.14, 0.36, (72, 108, 150))


def _tree(pen: _Pen, tree: Object) -> None:
    leaf = {"green": (58, 138, 62), "orange": (226, 128, 44), "pink": _PAINT["pink"]}[tree["leaf"]]
    pen.box("tree.trunk", -0.13, 0.2, 0.13, 0.96, (112, 72, 44))
    if tree["crown"] == "round":
        for x, y, r in ((-0.34, -0.04, 0.4), (0.34, -0.04, 0.4), (0, -0.42, 0.5)):
            pen.ellipse("tree.crown", x, y, r, r, leaf)
        pen.ellipse("tree.crown", 0, -0.16, 0.42, 0.36, leaf)
    else:
        for top, bottom, width in ((-0.96, -0.2, 0.42), (-0.62, 0.16, 0.56), (-0.24, 0.5, 0.7)):
            pen.polygon("tree.crown", [(-width, bottom), (0, top), (width, bottom)], leaf)


GLYPHS: dict[str, tuple[tuple[Point, Point], ...]] = {
    "A": (((0, 1), (0.5, 0)), ((0.5, 0), (1, 1)), ((0.25, 0.66), (0.75, 0.66))),
    "E": (((0, 0), (0, 1)), ((0, 0), (1, 0)), ((0, 0.5), (0.8, 0.5)), ((0, 1), (1, 1))),
    "H": (((0, 0), (0, 1)), ((1, 0), (1, 1)), ((0, 0.5), (1, 0.5))),
    "K": (((0, 0), (0, 1)), ((0, 0.55), (1, 0)), ((0.3, 0.45), (1, 1))),
    "L": (((0, 0), (0, 1)), ((0, 1), (1, 1))),
    "N": (((0, 1), (0, 0)), ((0, 0), (1, 1)), ((1, 1), (1, 0))),
    "T": (((0, 0), (1, 0)), ((0.5, 0), (0.5, 1))),
    "X": (((0, 0), (1, 1)), ((0, 1), (1, 0))),
}
"""Strokes of the letters in a unit square, y downwards."""


def _sign(pen: _Pen, sign: Object) -> None:
    pen.box("sign.pole", -0.07, 0.3, 0.07, 0.98, (92, 70, 56))
    pen.box("sign.board", -0.98, -0.52, 0.98, 0.4, _INK)
    pen.box("sign.board", -0.91, -0.45, 0.91, 0.33, _PAINT[sign["board"]])
    for place, letter in enumerate(sign["letters"]):
        left = -0.74 + place * 0.54
        for (x0, y0), (x1, y1) in GLYPHS[letter]:
            start = (left + 0.4 * x0, -0.29 + 0.46 * y0)
            end = (left + 0.4 * x1, -0.29 + 0.46 * y1)
            pen.line("sign.letter", start, end, 0.11, (32, 44, 104))


_DRAW: dict[str, Callable[[_Pen, Object], None]] = {
    "face": _face,
    "hand": _hand,
    "clock": _clock,
    "car": _car,
    "house": _house,
    "tree": _tree,
    "sign": _sign,
}
