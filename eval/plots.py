"""Small charts as inline SVG: axes, lines, points, steps and bars, without any dependency.

Colours and line styles come from the style sheet of the page, by class.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

WIDTH, HEIGHT = 360, 268
LEFT, RIGHT, TOP, BOTTOM = 58, 12, 12, 42
"""Margins of the area in which the data are drawn, in units of the view box."""

Point = tuple[float, float]


@dataclass(frozen=True)
class Axis:
    """One axis.

    Attributes:
        label: what it shows.
        low, high: its ends.
        ticks: values with a label.
        percent: labels in percent.
        log: logarithmic; values below `low` are drawn at it.
    """

    label: str
    low: float = 0.0
    high: float = 1.0
    ticks: tuple[float, ...] = (0, 0.2, 0.4, 0.6, 0.8, 1)
    percent: bool = False
    log: bool = False

    def place(self, value: float) -> float:
        """0 at the low end, 1 at the high end; values outside are drawn at the ends."""
        value = min(max(value, self.low), self.high)
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def tick_label(self, value: float) -> str:
        """The text beside a tick."""
        return f"{100 * value:g} %" if self.percent else f"{value:g}"


@dataclass(frozen=True)
class Mark:
    """What is drawn in a chart, in its order; `style` is a class of the style sheet.

    Attributes:
        kind: `line` through the points, `steps` of equal width between the ends of the x axis (points are their
            heights), `dots` with a radius each, or `rule`, a straight dashed line between two points.
        points: in data coordinates; nan breaks a line.
        style: class.
        radii: of dots, in units of the view box.
        label: drawn beside the first point of a rule, or beside the first dot; empty for none.
    """

    kind: str
    points: Sequence[Point]
    style: str
    radii: Sequence[float] = ()
    label: str = ""


def chart(title: str, description: str, x: Axis, y: Axis, marks: Sequence[Mark]) -> Markup:
    """A chart.

    Args:
        title: its accessible name.
        description: what it shows, in a sentence, for those who cannot see it.
        x, y: the axes.
        marks: drawn over one another.
    """
    parts = [_grid(x, y), *(_mark(one, x, y) for one in marks), _labels(x, y)]
    return Markup(
        '<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}"><desc>{}</desc>{}</svg>'
    ).format(WIDTH, HEIGHT, f"{title}. {description}", description, Markup("").join(parts))


@dataclass(frozen=True)
class Bar:
    """A horizontal bar, 0 to 1; `low` and `high` are the ends of an interval, if it has one."""

    label: str
    value: float
    style: str
    low: float | None = None
    high: float | None = None


def bar_chart(title: str, bars: Sequence[Bar]) -> Markup:
    """Horizontal bars with their labels above them and their values in percent at the right."""
    row, room = 36, WIDTH - 60
    top = max([bar.high if bar.high is not None else bar.value for bar in bars] + [0.01])
    parts = []
    for place, bar in enumerate(bars):
        y, width = place * row, room * bar.value / top
        parts.append(Markup('<text class="name" x="0" y="{}">{}</text>').format(y + 12, bar.label))
        parts.append(
            Markup('<rect class="bar {}" x="0" y="{}" width="{:.1f}" height="12" rx="2"/>').format(
                bar.style, y + 18, max(width, 1)
            )
        )
        end = width
        if bar.low is not None and bar.high is not None:
            end = room * bar.high / top
            parts.append(
                Markup('<path class="whisker" d="M{:.1f} {}H{:.1f}"/>').format(
                    room * bar.low / top, y + 24, end
                )
            )
        parts.append(
            Markup('<text class="value" x="{:.1f}" y="{}">{:.1f}</text>').format(
                max(end, width) + 6, y + 29, 100 * bar.value
            )
        )
    values = ", ".join(f"{bar.label} {100 * bar.value:.1f}" for bar in bars)
    return Markup('<svg class="chart bars" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        WIDTH, max(1, len(bars)) * row, f"{title}: {values}", Markup("").join(parts)
    )


def _at(point: Point, x: Axis, y: Axis) -> Point:
    across, up = x.place(point[0]), y.place(point[1])
    return LEFT + across * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM)


def _grid(x: Axis, y: Axis) -> Markup:
    left, right, bottom, top = LEFT, WIDTH - RIGHT, HEIGHT - BOTTOM, TOP
    runs = [f"M{left} {_at((x.low, tick), x, y)[1]:.1f}H{right}" for tick in y.ticks]
    runs += [f"M{_at((tick, y.low), x, y)[0]:.1f} {bottom}V{top}" for tick in x.ticks]
    return Markup('<path class="grid" d="{}"/>').format("".join(runs))


def _labels(x: Axis, y: Axis) -> Markup:
    bottom = HEIGHT - BOTTOM
    parts = [
        Markup('<text class="tick" x="{:.1f}" y="{}" text-anchor="middle">{}</text>').format(
            _at((tick, y.low), x, y)[0], bottom + 16, x.tick_label(tick)
        )
        for tick in x.ticks
    ]
    parts += [
        Markup('<text class="tick" x="{}" y="{:.1f}" text-anchor="end">{}</text>').format(
            LEFT - 5, _at((x.low, tick), x, y)[1] + 4, y.tick_label(tick)
        )
        for tick in y.ticks
    ]
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(
        Markup('<text class="axis" x="{}" y="{}" text-anchor="middle">{}</text>').format(
            middle, HEIGHT - 6, x.label
        )
    )
    down = (TOP + bottom) / 2
    parts.append(
        Markup(
            '<text class="axis" x="12" y="{0}" text-anchor="middle" transform="rotate(-90 12 {0})">{1}</text>'
        ).format(down, y.label)
    )
    return Markup("").join(parts)


def _mark(mark: Mark, x: Axis, y: Axis) -> Markup:
    if mark.kind == "dots":
        return _dots(mark, x, y)
    points = mark.points
    if mark.kind == "steps":
        width = (x.high - x.low) / max(1, len(points))
        points = [
            corner
            for place, (_, height) in enumerate(points)
            for corner in ((x.low + place * width, height), (x.low + (place + 1) * width, height))
        ]
    path, pen_down = [], False
    for point in points:
        if math.isnan(point[0]) or math.isnan(point[1]):
            pen_down = False
            continue
        across, down = _at(point, x, y)
        path.append(f"{'L' if pen_down else 'M'}{across:.1f} {down:.1f}")
        pen_down = True
    drawn = Markup('<path class="line {}" d="{}"/>').format(mark.style, "".join(path))
    if not mark.label or not points or math.isnan(points[0][1]):
        return drawn
    across, down = _at(points[0], x, y)
    upright = len(points) > 1 and points[0][0] == points[-1][0]
    anchor = "end" if upright and across > WIDTH * 0.6 else "start"
    return drawn + _note(
        across - 4 if anchor == "end" else across + 4, TOP + 10 if upright else down - 4, mark.label, anchor
    )


def _dots(mark: Mark, x: Axis, y: Axis) -> Markup:
    places = [_at(point, x, y) for point in mark.points]
    dots = Markup("").join(
        Markup('<circle class="dot {}" cx="{:.1f}" cy="{:.1f}" r="{:.1f}"/>').format(
            mark.style, *place, radius
        )
        for place, radius in zip(places, mark.radii, strict=True)
    )
    if not mark.label or not places:
        return dots
    across, down = places[0]
    anchor = "end" if across > WIDTH * 0.6 else "start"
    return dots + _note(across + (-8 if anchor == "end" else 8), max(down - 8, TOP + 8), mark.label, anchor)


def _note(across: float, down: float, text: str, anchor: str) -> Markup:
    return Markup('<text class="note" x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>').format(
        across, down, anchor, escape(text)
    )
