"""A brush for damage: paints over a render at the renderer's own scale."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from PIL import Image, ImageDraw

from tinytown.render import SCALE
from tinytown.scene import Thing

Point = tuple[float, float]
Colour = tuple[int, int, int]
Stroke = tuple[Point, Point]
Box = tuple[int, int, int, int]


class Brush:
    """Paints over a canvas in the coordinates of one object (its circle has radius 1)."""

    def __init__(self, canvas: Image.Image, below: Image.Image, thing: Thing) -> None:
        self.canvas = canvas
        self.below = below
        self._draw = ImageDraw.Draw(canvas)
        self._centre = (thing.centre[0] * SCALE, thing.centre[1] * SCALE)
        self._radius = thing.radius * SCALE

    def spots(self, points: Sequence[Point]) -> list[Point]:
        """Pixels of the canvas."""
        (x, y), r = self._centre, self._radius
        return [(x + u * r, y + v * r) for u, v in points]

    def box(self, left: float, top: float, right: float, bottom: float) -> Box:
        """A box in whole pixels of the canvas."""
        (a, b), (c, d) = self.spots([(left, top), (right, bottom)])
        return round(a), round(b), round(c), round(d)

    def colour_at(self, x: float, y: float) -> Colour:
        """The colour that is there now."""
        column, row, _, _ = self.box(x, y, x, y)
        red, green, blue = self.canvas.getpixel((column, row))
        return red, green, blue

    def ellipse(self, x: float, y: float, rx: float, ry: float, fill: Colour) -> None:
        self._draw.ellipse(self.spots([(x - rx, y - ry), (x + rx, y + ry)]), fill=fill)

    def polygon(self, points: Sequence[Point], fill: Colour) -> None:
        self._draw.polygon(self.spots(points), fill=fill)

    def stroke(self, points: Sequence[Point], width: float, fill: Colour) -> None:
        """A bent line with round ends and corners."""
        pixels = round(width * self._radius)
        spots = self.spots(points)
        for start, end in pairwise(spots):
            self._draw.line([start, end], fill=fill, width=pixels)
        for x, y in spots:
            h = pixels / 2
            self._draw.ellipse((x - h, y - h, x + h, y + h), fill=fill)

    def erase(self, box: Box) -> None:
        """Shows what the object hides."""
        self.canvas.paste(self.below.crop(box), box)
