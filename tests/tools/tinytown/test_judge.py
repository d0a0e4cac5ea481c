"""The judge's targets by hand, its reading of a heat map, and a short training that finds its objects."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from actors.errors import ModelError
from tinytown.render import render
from tinytown.scene import KINDS, Scene, Thing
from tools.tinytown.judge import _loss, _shifted
from tools.tinytown.objects import COLOURS, Detection, Judge, build, present, targets
from tools.tinytown.vae import tensor

TREE = Thing("tree", "small", 4, 12, (("crown", "round"), ("leaf", "pink")))  # centre (16, 48)
CAR = Thing("car", "small", 12, 4, (("paint", "blue"), ("facing", "left")))  # centre (48, 16)


class Fixed(nn.Module):
    """Says the same of every image."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = logits

    def forward(self, images: Tensor) -> Tensor:
        return self.logits.expand(len(images), -1, -1, -1)


def test_every_kind_has_its_main_colours():
    assert (
        ("tree", "leaf") not in COLOURS and ("tree", "pink") in COLOURS and ("tree", "round") not in COLOURS
    )
    assert ("hand", "tan") in COLOURS and ("hand", "left") not in COLOURS
    assert len(COLOURS) == 4 + 4 + 4 + 4 + 3 + 3 + 2


def test_targets_peak_around_the_centre():
    heat, labels = targets([TREE], (0, 0))
    # (16, 48) is the corner of four cells, with middles 2 pixels away: all of them are right.
    assert heat[11:13, 3:5].tolist() == [[1, 1], [1, 1]] and (heat == 1).sum() == 4
    # One cell on: squares of 6 and 2 pixels against 2 and 2, so e^(-(40 - 8) / 18).
    assert heat[11, 5] == pytest.approx(np.exp(-32 / 18), rel=1e-5)
    assert labels[0, 11, 3] == KINDS.index("tree") and COLOURS[labels[1, 11, 3]] == ("tree", "pink")
    assert (labels[0] >= 0).sum() == 4 and labels[0, 4, 12] == -1


def test_targets_move_with_the_image():
    heat, _ = targets([TREE], (2, -2))  # (18, 46) is the middle of a cell
    assert heat[11, 4] == 1 and (heat == 1).sum() == 1


def test_a_moved_image_repeats_its_edges():
    image = np.arange(64, dtype=np.uint8)[None, :, None] * np.ones((64, 1, 3), np.uint8)
    moved = _shifted(image, 2, -1)
    assert moved[0, :5, 0].tolist() == [0, 0, 0, 1, 2] and moved.shape == image.shape
    down = _shifted(image.transpose(1, 0, 2), 0, -3)
    assert down[0, 0, 0] == 3 and down[63, 0, 0] == 63


def test_a_detection_reads_place_kind_and_colour():
    logits = torch.full((1, 1 + len(KINDS) + len(COLOURS), 16, 16), -9.0)
    logits[0, 0, 5, 7] = logits[0, 0, 5, 8] = 3.0  # between the cells with middles (30, 22) and (34, 22)
    logits[0, 0, 12, 2] = -2.0  # too weak
    logits[0, 1 + KINDS.index("sign"), 5] = 2.0
    # A car's colour is surer, but the object is a sign.
    logits[0, 1 + len(KINDS) + COLOURS.index(("car", "red"))] = 5.0
    logits[0, 1 + len(KINDS) + COLOURS.index(("sign", "yellow"))] = 1.0
    found = Judge(Fixed(logits))(np.zeros((2, 64, 64, 3), np.uint8))
    assert len(found) == 2 and found[0] == found[1]
    one = found[0][0]
    assert (one.kind, one.colour) == ("sign", "yellow")
    assert one.x == pytest.approx(32, abs=0.1) and one.y == pytest.approx(22, abs=0.1)
    assert one.score == pytest.approx(1 / (1 + np.exp(-3)))


def test_present_asks_for_kind_place_and_colour():
    assert present([Detection("tree", 22.0, 53.0, "pink", 0.9)], TREE)  # hypot(6, 5) is 7.8
    assert not present([Detection("tree", 22.0, 54.0, "pink", 0.9)], TREE)  # hypot(6, 6) is 8.5
    assert not present([Detection("tree", 16.0, 48.0, "green", 0.9)], TREE)
    assert not present([Detection("house", 16.0, 48.0, "pink", 0.9)], TREE)
    assert not present([], TREE)


def test_it_learns_two_scenes_in_a_few_steps():
    torch.manual_seed(0)
    scenes = [Scene("day", (TREE,)), Scene("night", (CAR,))]
    images = np.stack([render(scene).image for scene in scenes])
    wanted = [targets(scene.things, (0, 0)) for scene in scenes]
    heat, labels = (torch.from_numpy(np.stack(column)) for column in zip(*wanted, strict=True))
    net = build()
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3)
    for _ in range(40):
        loss = _loss(net.train(), tensor(images), heat, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    found = Judge(net)(images)
    assert present(found[0], TREE) and not present(found[0], CAR)
    assert present(found[1], CAR) and not present(found[1], TREE)


def test_a_missing_or_foreign_judge_is_reported(tmp_path: Path):
    with pytest.raises(ModelError, match="make assets"):
        Judge.load(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"colours": [["car", "green"]]}))
    with pytest.raises(ModelError, match="other colours"):
        Judge.load(tmp_path)
