"""Losses of trainings, and a plot of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

COLOURS = ("#444444", "#1f77b4", "#d62728", "#17a05d", "#b8860b")

Curve = NDArray[np.float64]


def losses_of(out: Path) -> Curve:
    """The loss of every step of a training."""
    return np.array([json.loads(line)["loss"] for line in (out / "log.jsonl").read_text().splitlines()])


def smoothed(losses: Curve, window: int) -> Curve:
    """Running means."""
    return np.convolve(losses, np.ones(window) / window, mode="valid")


def draw(curves: Mapping[str, Curve], file: Path, *, across: str, thickest: int = 2) -> None:
    """Draw curves against steps, with a legend.

    Args:
        curves: by the names that the legend shows.
        file: a PNG.
        across: what the axis of steps shows.
        thickest: pixels of the first line. Where they lie on each other, thinner ones after it leave it visible.
    """
    width, height, margin = 900, 480, 50
    canvas = Image.new("RGB", (width, height), "white")
    pen = ImageDraw.Draw(canvas)
    top = max(float(curve.max()) for curve in curves.values())
    longest = max(len(curve) for curve in curves.values())
    for part in range(5):
        y = height - margin - part / 4 * (height - 2 * margin)
        pen.line([(margin, y), (width - margin, y)], fill="#dddddd")
        pen.text((8, y - 6), f"{top * part / 4:.2f}", fill="black")
        x = margin + part / 4 * (width - 2 * margin)
        pen.text((x - 10, height - margin + 8), f"{longest * part // 4:,}", fill="black")
    pen.text((width // 2 - 60, height - 20), across, fill="black")
    pen.text((8, 12), "loss", fill="black")
    for number, (name, curve) in enumerate(curves.items()):
        xs = margin + np.arange(len(curve)) / longest * (width - 2 * margin)
        ys = height - margin - curve / top * (height - 2 * margin)
        pen.line(
            list(zip(xs.tolist(), ys.tolist(), strict=True)),
            fill=COLOURS[number],
            width=max(2, thickest - 4 * number),
        )
        pen.text((width - 320, 20 + 16 * number), name, fill=COLOURS[number])
    canvas.save(file)
