"""What is done to an object to damage it: one function a kind, each over a finished drawing of the object."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageOps

from tests.tinytown.brush import Box, Brush, Colour, Point, Stroke
from tinytown.render import FINGERS, GLYPHS, THUMB
from tinytown.scene import NUMBERS, RADII, Thing

MIRRORED = "EKL"
"""Letters whose mirror image is another shape, and not one that N could be taken for."""

_WHITE, _INK = (255, 255, 255), (36, 30, 40)


def _without_eye(brush: Brush, face: Thing, rng: np.random.Generator) -> None:
    _close_eye(brush, int(rng.choice([-1, 1])))


def _close_eye(brush: Brush, side: int) -> None:
    brush.ellipse(side * 0.32, 0.04, 0.21, 0.18, brush.colour_at(0, 0.08))


def _eye_elsewhere(brush: Brush, face: Thing, rng: np.random.Generator) -> None:
    side = int(rng.choice([-1, 1]))
    while True:
        angle, far = rng.uniform(0, 2 * math.pi), rng.uniform(0.3, 0.5)
        x, y = side * 0.32 + far * math.cos(angle), 0.04 + far * math.sin(angle)
        inside = ((abs(x) + 0.1) / 0.74) ** 2 + ((abs(y - 0.16) + 0.1) / 0.82) ** 2 < 1
        if inside and math.hypot(x + side * 0.32, y - 0.04) > 0.42:
            break
    _close_eye(brush, side)
    brush.ellipse(x, y, 0.19, 0.16, _WHITE)
    brush.ellipse(x, y + 0.01, 0.1, 0.12, _INK)


EXTRA_FINGERS: tuple[Stroke, ...] = (
    ((-0.22, 0.05), (-0.44, -0.88)),
    ((0.22, 0.05), (0.41, -0.89)),
    ((-0.4, 0.3), (-0.84, -0.18)),
    ((0.38, 0.3), (0.76, -0.34)),
)
"""Between two outer fingers (the middle two leave no room), beyond the last, and beside the thumb; of a left hand."""


def _sixth_finger(brush: Brush, hand: Thing, rng: np.random.Generator) -> None:
    skin, edge = _hand_colours(brush)
    finger = _turned(hand, EXTRA_FINGERS[int(rng.integers(len(EXTRA_FINGERS)))])
    brush.stroke(finger, 0.34, edge)
    brush.stroke(finger, 0.24, skin)
    brush.ellipse(0, 0.42, 0.5, 0.52, skin)


def _without_finger(brush: Brush, hand: Thing, rng: np.random.Generator) -> None:
    gone = int(rng.integers(4))
    skin, edge = _hand_colours(brush)
    brush.canvas.paste(brush.below)
    for grow, colour in ((0.1, edge), (0.0, skin)):
        brush.ellipse(0, 0.42, 0.5 + grow / 2, 0.52 + grow / 2, colour)
        for finger in FINGERS[:gone] + FINGERS[gone + 1 :]:
            brush.stroke(_turned(hand, finger), 0.24 + grow, colour)
        brush.stroke(_turned(hand, THUMB), 0.26 + grow, colour)
    brush.ellipse(0, 0.42, 0.5, 0.52, skin)


def _fused_fingers(brush: Brush, hand: Thing, rng: np.random.Generator) -> None:
    first, reach = int(rng.integers(3)), rng.uniform(0.75, 0.95)
    skin, edge = _hand_colours(brush)
    one, other = (_turned(hand, finger) for finger in FINGERS[first : first + 2])
    ends = [(u + reach * (x - u), v + reach * (y - v)) for (u, v), (x, y) in (one, other)]
    brush.stroke(ends, 0.1, edge)
    brush.polygon([one[0], *ends, other[0]], skin)
    brush.stroke(one, 0.24, skin)
    brush.stroke(other, 0.24, skin)


def _hand_colours(brush: Brush) -> tuple[Colour, Colour]:
    """Of the skin and of its outline."""
    skin = brush.colour_at(0, 0.5)
    red, green, blue = (round(channel * 0.55) for channel in skin)
    return skin, (red, green, blue)


def _turned(hand: Thing, stroke: Stroke) -> Stroke:
    """A stroke of a left hand, on this one."""
    mirror = 1 if hand["side"] == "left" else -1
    (u, v), (x, y) = stroke
    return (mirror * u, v), (mirror * x, y)


def _letter_box(brush: Brush, place: int) -> Box:
    """A letter with half of the gaps beside it; the letter is in its middle."""
    left = -0.74 + place * 0.54
    return brush.box(left - 0.07, -0.42, left + 0.47, 0.3)


def _smeared_letter(brush: Brush, sign: Thing, rng: np.random.Generator) -> None:
    box = _letter_box(brush, int(rng.integers(3)))
    sharp = np.asarray(brush.canvas.crop(box), dtype=np.float64)
    legal = [_ink(_letter(letter, box)) for letter in GLYPHS]
    unit = sharp.shape[1] / 0.54
    while True:
        angle, far = rng.uniform(0, 2 * math.pi), rng.uniform(0.3, 0.5) * unit
        smeared = _dragged(sharp, far * math.cos(angle), far * math.sin(angle))
        if all(np.corrcoef(_ink(smeared), letter)[0, 1] < 0.75 for letter in legal):
            break
    patch = Image.fromarray(np.round(smeared).astype(np.uint8))
    brush.canvas.paste(patch.filter(ImageFilter.GaussianBlur(1)), box)


def _letter(letter: str, box: Box) -> NDArray[np.float64]:
    """A letter as it stands in its box, dark on white."""
    left, top, right, bottom = box
    unit = (right - left) / 0.54
    tile = Image.new("RGB", (right - left, bottom - top), _WHITE)
    pen = ImageDraw.Draw(tile)
    for stroke in GLYPHS[letter]:
        spots = [((0.07 + 0.4 * x) * unit, (0.13 + 0.46 * y) * unit) for x, y in stroke]
        pen.line(spots, fill=_INK, width=round(0.11 * unit))
    return np.asarray(tile, dtype=np.float64)


def _ink(tile: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(-tile.sum(axis=-1).ravel())


def _dragged(tile: NDArray[np.float64], across: float, down: float) -> NDArray[np.float64]:
    """Wet ink wiped in one direction, in pixels: at the end of the way half of it is left."""
    board = tile.max(axis=(0, 1))
    rows, columns = np.indices(tile.shape[:2])
    wiped = tile
    for way in np.linspace(0.0, 1.0, 15):
        row = np.clip(np.round(rows - way * down), 0, tile.shape[0] - 1).astype(int)
        column = np.clip(np.round(columns - way * across), 0, tile.shape[1] - 1).astype(int)
        wiped = np.minimum(wiped, board + (1 - way / 2) * (tile[row, column] - board))
    return wiped


def _mirrored_letter(brush: Brush, sign: Thing, rng: np.random.Generator) -> None:
    places = [place for place, letter in enumerate(sign["letters"]) if letter in MIRRORED]
    box = _letter_box(brush, int(rng.choice(places)))
    brush.canvas.paste(ImageOps.mirror(brush.canvas.crop(box)), box)


def _wheel_off(brush: Brush, car: Thing, rng: np.random.Generator) -> None:
    x = float(rng.choice([-0.5, 0.5]))
    paint = brush.colour_at(0, 0.2)
    brush.erase(brush.box(x - 0.27, 0.34, x + 0.27, 0.65))
    brush.polygon([(x - 0.27, 0.08), (x + 0.27, 0.08), (x + 0.27, 0.36), (x - 0.27, 0.36)], paint)
    if rng.random() < 0.5:
        angle, far = rng.uniform(0, math.pi), rng.uniform(0.25, 0.5)
        u, v = x + far * math.cos(angle), 0.36 + far * math.sin(angle)
        brush.ellipse(u, v, 0.25, 0.25, _INK)
        brush.ellipse(u, v, 0.11, 0.11, (196, 196, 204))


def _bent_hand(brush: Brush, clock: Thing, rng: np.random.Generator) -> None:
    half = clock["minute"] == "thirty"
    hour = 2 * math.pi * (NUMBERS.index(clock["hour"]) + half / 2) / 12
    hands = [(hour, 0.36, 0.15), (math.pi * half, 0.54, 0.1)]
    # The halves of the hour hand of a smaller clock are as wide as they are long: no kink could be seen.
    bent = int(rng.integers(2)) if clock.radius >= RADII["large"] else 1
    angle, length, _ = hands[bent]
    other_angle, other_length, _ = hands[1 - bent]
    other_hand = [_along((0.0, 0.0), other_angle, other_length * far) for far in np.linspace(0, 1, 10)]
    knee = _along((0.0, 0.0), angle, length * rng.uniform(0.45, 0.6))
    while True:
        turn = math.radians(rng.uniform(50, 110)) * float(rng.choice([-1, 1]))
        tip = _along(knee, angle + turn, length - math.hypot(*knee))
        # Lying on the other hand, the outer half could not be seen.
        if all(math.dist(tip, point) > 0.14 for point in other_hand):
            break
    brush.ellipse(0, 0, 0.6, 0.6, brush.colour_at(0.5, -0.5))
    for tick in range(4):
        ends = [_along((0.0, 0.0), math.radians(90 * tick), far) for far in (0.6, 0.68)]
        brush.stroke(ends, 0.08, (120, 120, 124))
    for number, (direction, reach, width) in enumerate(hands):
        end = [knee, tip] if number == bent else [_along((0.0, 0.0), direction, reach)]
        brush.stroke([(0.0, 0.0), *end], width, _INK)


def _along(start: Point, angle: float, length: float) -> Point:
    """The point at a distance, at an angle clockwise from twelve."""
    return start[0] + length * math.sin(angle), start[1] - length * math.cos(angle)


DAMAGES: dict[str, tuple[str, Callable[[Brush, Thing, np.random.Generator], None]]] = {
    "missing_eye": ("face", _without_eye),
    "moved_eye": ("face", _eye_elsewhere),
    "sixth_finger": ("hand", _sixth_finger),
    "missing_finger": ("hand", _without_finger),
    "fused_fingers": ("hand", _fused_fingers),
    "smeared_letter": ("sign", _smeared_letter),
    "mirrored_letter": ("sign", _mirrored_letter),
    "wheel_off": ("car", _wheel_off),
    "bent_hand": ("clock", _bent_hand),
}
"""The kind of object, and its damage, by the kind of damage."""
