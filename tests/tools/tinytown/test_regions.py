"""Region selectors: a toy run from a part segmenter to the curve on validation."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from eval.labelled import Labelled
from tests.upernet import save_upernet
from tools.tinytown.regions import THRESHOLDS, show, train
from train.segmentation import FineTuning


def toys(count: int) -> Labelled:
    """Grey images; the artifact is a bright square."""
    masks = np.zeros((count, 64, 64), bool)
    for number, mask in enumerate(masks):
        left = 5 * number % 40
        mask[left : left + 20, 10:30] = True
    images = np.where(masks[..., None], 230, 90).astype(np.uint8).repeat(3, axis=-1)
    return Labelled([f"toy-{number}" for number in range(count)], [""] * count, images, masks)


def test_a_part_segmenter_becomes_a_region_selector(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    caplog.set_level("INFO")
    save_upernet(tmp_path / "segmenter-convnext", labels=24)
    settings = FineTuning(learning_rate=1e-2, iterations=60, batch=8, warm_up=5)
    out = tmp_path / "regions-convnext"
    train(tmp_path / "segmenter-convnext", toys(8), settings, out)
    config = json.loads((out / "config.json").read_text())
    assert config["id2label"] == {"0": "clean", "1": "artifact"}
    assert sum(path.stat().st_size for path in out.iterdir()) < 4e6

    show(out, toys(8), np.full((4, 64, 64, 3), 90, np.uint8))
    lines = [record.getMessage() for record in caplog.records if "threshold" in record.getMessage()]
    assert len(lines) == len(THRESHOLDS)
    (middle,) = [line for line in lines if line.startswith("threshold 0.50")]
    assert float(middle.split("IoU_fg ")[1].split()[0]) > 0.8
    assert float(middle.split("blindly ")[1].split(",")[0]) < 0.3
    assert float(middle.split("area ")[1].split(";")[0]) == pytest.approx(400 / 4096, abs=0.02)
    assert middle.endswith("a region in 0.000 of clean renders")
