"""Charts as SVG: where the data lie, and that text stays text."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import pytest

from eval.plots import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Axis, Bar, Mark, bar_chart, chart

SVG = "{http://www.w3.org/2000/svg}"
X, Y = Axis("recall"), Axis("share", 0.001, 1, (0.001, 0.01, 0.1, 1), percent=True, log=True)


def parsed(svg: str) -> ET.Element:
    return ET.fromstring(svg.encode().replace(b"<svg ", b'<svg xmlns="http://www.w3.org/2000/svg" ', 1))


def test_places_on_a_linear_and_a_logarithmic_axis():
    assert [X.place(value) for value in (-1, 0, 0.25, 2)] == [0, 0, 0.25, 1]
    assert [Y.place(value) for value in (0, 0.001, 0.01, 1)] == pytest.approx([0, 0, 1 / 3, 1])
    assert [Y.tick_label(value) for value in Y.ticks] == ["0.1 %", "1 %", "10 %", "100 %"]


def test_a_line_is_broken_at_undefined_points():
    points = [(0, 0), (0.5, 1), (0.6, float("nan")), (1, 0)]
    root = parsed(chart("title", "text", X, Axis("y"), [Mark("line", points, "detector")]))
    path = next(one for one in root.iter(f"{SVG}path") if one.get("class") == "line detector").get("d")
    right, bottom, middle = WIDTH - RIGHT, HEIGHT - BOTTOM, (LEFT + WIDTH - RIGHT) / 2
    wanted = [(LEFT, bottom), (middle, TOP), (right, bottom)]
    assert [tuple(map(float, pair)) for pair in re.findall(r"([\d.]+) ([\d.]+)", path)] == wanted
    assert [one for one in path if one.isalpha()] == ["M", "L", "M"]


def test_steps_have_equal_widths():
    root = parsed(chart("t", "d", X, Axis("y"), [Mark("steps", [(0, 0.25), (0, 1)], "clean")]))
    path = next(one for one in root.iter(f"{SVG}path") if one.get("class") == "line clean").get("d")
    across = [float(pair[0]) for pair in re.findall(r"([\d.]+) ([\d.]+)", path)]
    middle = (LEFT + WIDTH - RIGHT) / 2
    assert across == [LEFT, middle, middle, WIDTH - RIGHT]


def test_text_stays_text():
    hostile = '"><script>'
    for svg in (
        chart(hostile, hostile, Axis(hostile), X, [Mark("rule", [(0, 0), (1, 0)], "rule", label=hostile)]),
        bar_chart(hostile, [Bar(hostile, 0.5, "blind", 0.4, 0.6)]),
    ):
        root = parsed(svg)
        assert hostile in root.get("aria-label") and hostile in [
            text.text for text in root.iter(f"{SVG}text")
        ]
        assert not list(root.iter(f"{SVG}script"))
