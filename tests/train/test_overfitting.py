"""Both backbones learn eight images by heart: the gradient reaches every part, and labels stand where pixels do."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.train.small import drawn, loop_of, recipe_of, tar_of
from tools.tinytown.segmenter import build

STEPS = {"convnext": 40, "swin": 40}


@pytest.mark.parametrize("kind", ["convnext", "swin"])
def test_eight_images_are_learnt_by_heart(kind: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    build(kind).save_pretrained(tmp_path / "net")
    tar = tar_of(tmp_path / "eight.tar", drawn(8, 64))
    recipe = recipe_of(
        tmp_path / "net",
        iterations=STEPS[kind],
        model={"batch_norm": "per_worker"},
        optimizer={"learning_rate": 3e-3, "warm_up": 5},
        precision="float32",
        validation={"url": "x", "every": 1000},
        execution={"save_every": 1000},
    )
    state = loop_of(recipe, tar, tmp_path / "out", validation=tar).run()
    assert state.best is not None and state.best.figures["iou_fg"] > 0.9
