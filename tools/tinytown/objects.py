"""The judge of tinytown: a small network that finds objects in images, to count what a generator draws.

It shares nothing with the annotator but the names of things: it is the second opinion. `tools.tinytown.judge` trains
it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn

from actors.errors import ModelError
from tinytown.fitting import MAIN_COLOUR
from tinytown.scene import CHOICES, KINDS, SIZE, Thing
from tools.tinytown.vae import tensor

COLOURS = tuple((kind, word) for kind in KINDS for word in CHOICES[kind][MAIN_COLOUR[kind]])
"""Every main colour of every kind, in the order of the classifier's outputs."""

NEAR = 8.0
"""Pixels that an object's centre may lie away from where its caption puts it."""

CELL = 4
LEAST_SCORE = 0.3


@dataclass(frozen=True)
class Detection:
    """An object that the classifier finds.

    Attributes:
        kind: one of `scene.KINDS`.
        x, y: its centre in pixels.
        colour: the word of its main colour.
        score: 0..1, confidence that an object stands in that place.
    """

    kind: str
    x: float
    y: float
    colour: str
    score: float


def build() -> nn.Module:
    """The untrained network: float32 [B, 3, 64, 64] in [-1, 1] to [B, 1 + kinds + colours, 16, 16] logits."""
    layers: list[nn.Module] = []
    # Dilation widens the view to the 40 pixels of the largest object without losing the grid of cells.
    for inside, outside, stride, dilation in (
        (3, 24, 2, 1),
        (24, 64, 2, 1),
        (64, 64, 1, 1),
        (64, 64, 1, 2),
        (64, 64, 1, 4),
        (64, 64, 1, 2),
        (64, 64, 1, 1),
    ):
        convolution = nn.Conv2d(
            inside, outside, 3, stride=stride, padding=dilation, dilation=dilation, bias=False
        )
        layers += [convolution, nn.BatchNorm2d(outside), nn.ReLU()]
    return nn.Sequential(*layers, nn.Conv2d(64, 1 + len(KINDS) + len(COLOURS), 1))


class Judge:
    """Finds tinytown's objects in images.

    Args:
        net: a trained network of `build`.
        least_score: of a detection.
    """

    def __init__(self, net: nn.Module, least_score: float = LEAST_SCORE) -> None:
        self.net = net.eval()
        self.least_score = least_score

    @classmethod
    def load(cls, folder: Path) -> Judge:
        """Reads what the training program wrote.

        Raises:
            ModelError: it is missing, or was trained on other kinds or colours.
        """
        if not (folder / "config.json").exists():
            raise ModelError(
                f"no judge in {folder}: `make assets` trains it (python -m tools.tinytown.judge)"
            )
        config = json.loads((folder / "config.json").read_text())
        if config["colours"] != [list(pair) for pair in COLOURS]:
            raise ModelError(f"the judge in {folder} was trained on other colours; train it anew")
        net = build()
        net.load_state_dict(load_file(folder / "model.safetensors"))
        return cls(net)

    @torch.no_grad()
    def __call__(self, images: NDArray[np.uint8]) -> list[list[Detection]]:
        """uint8 [N, 64, 64, 3] to the objects of every image, the surest first."""
        found = []
        for first in range(0, len(images), 64):
            found += [
                self._detections(logits) for logits in self.net(tensor(images[first : first + 64])).float()
            ]
        return found

    def _detections(self, logits: Tensor) -> list[Detection]:
        heat = logits[0].sigmoid()
        # A peak is the largest of its 5x5 cells: centres of two objects are at least 21 pixels apart.
        peaks = (heat == F.max_pool2d(heat[None], 5, stride=1, padding=2)[0]) & (heat >= self.least_score)
        found = []
        for row, column in peaks.nonzero().tolist():
            top, left = max(row - 1, 0), max(column - 1, 0)
            near = heat[top : row + 2, left : column + 2]
            rows = torch.arange(top, top + near.shape[0]) + 0.5
            columns = torch.arange(left, left + near.shape[1]) + 0.5
            y, x = (near.sum(1) @ rows) / near.sum() * CELL, (near.sum(0) @ columns) / near.sum() * CELL
            kind = KINDS[int(logits[1 : 1 + len(KINDS), row, column].argmax())]
            words = [number for number, (owner, _) in enumerate(COLOURS) if owner == kind]
            best = words[int(logits[1 + len(KINDS) :, row, column][words].argmax())]
            found.append(Detection(kind, x.item(), y.item(), COLOURS[best][1], heat[row, column].item()))
        return sorted(found, key=lambda one: -one.score)


def present(detections: Sequence[Detection], thing: Thing) -> bool:
    """Whether a thing was detected: right kind, centre within `NEAR` pixels, main colour right."""
    x, y = thing.centre
    return any(
        one.kind == thing.kind
        and np.hypot(one.x - x, one.y - y) <= NEAR
        and one.colour == thing[MAIN_COLOUR[thing.kind]]
        for one in detections
    )


def targets(things: Sequence[Thing], shift: tuple[int, int]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The network's target for an image whose objects moved by `shift` pixels (x, y).

    Returns:
        Heat, float32 [16, 16]: 1 at a centre, falling off with a standard deviation of 3 pixels; and int64
        [2, 16, 16]: kind and colour of the nearest object, -1 where the heat is below 0.5.
    """
    middles = (np.arange(SIZE // CELL) + 0.5) * CELL
    heat = np.zeros((len(middles), len(middles)), np.float32)
    labels = np.full((2, *heat.shape), -1, np.int64)
    for thing in things:
        x, y = thing.centre[0] + shift[0], thing.centre[1] + shift[1]
        squares = (middles[None, :] - x) ** 2 + (middles[:, None] - y) ** 2
        bump = np.exp(-squares / (2 * 3.0**2)).astype(np.float32)
        # Otherwise a centre between cells would have no cell of heat 1.
        bump /= bump.max()
        labels[0][bump >= 0.5] = KINDS.index(thing.kind)
        labels[1][bump >= 0.5] = COLOURS.index((thing.kind, thing[MAIN_COLOUR[thing.kind]]))
        heat = np.maximum(heat, bump)
    return heat, labels
