"""Region selectors: a toy run from a part segmenter to the curve on validation, on Ray Train as a user's."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import ray

from actors.images import encode_image, encode_mask
from eval.labelled import Labelled
from factory.output.shards.tar import write_tar
from tests.upernet import save_upernet
from tools.tinytown.regions import THRESHOLDS, show, train


def toys(count: int) -> Labelled:
    """Grey images; the artifact is a bright square."""
    masks = np.zeros((count, 64, 64), bool)
    for number, mask in enumerate(masks):
        left = 5 * number % 40
        mask[left : left + 20, 10:30] = True
    images = np.where(masks[..., None], 230, 90).astype(np.uint8).repeat(3, axis=-1)
    return Labelled([f"toy-{number}" for number in range(count)], [""] * count, images, masks)


@pytest.mark.slow
def test_a_part_segmenter_becomes_a_region_selector(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    caplog.set_level("INFO")
    save_upernet(tmp_path / "segmenter-convnext", labels=24)
    labelled = toys(8)
    samples = {
        key: {"image.png": encode_image(image), "mask.png": encode_mask(mask)}
        for key, image, mask in zip(labelled.keys, labelled.images, labelled.masks, strict=True)
    }
    (tmp_path / "labelled.tar").write_bytes(write_tar(samples))
    out = tmp_path / "regions-convnext"
    changes = ["iterations=60", "optimizer.learning_rate=0.01", "optimizer.warm_up=5"]
    try:
        train(tmp_path / "segmenter-convnext", str(tmp_path / "labelled.tar"), out, changes)
    finally:
        ray.shutdown()
    config = json.loads((out / "config.json").read_text())
    assert config["id2label"] == {"0": "clean", "1": "artifact"}
    assert {path.name for path in out.iterdir()} == {
        "config.json",
        "model.safetensors",
        "preprocessor_config.json",
    }
    assert sum(path.stat().st_size for path in out.iterdir()) < 4e6

    show(out, toys(8), np.full((4, 64, 64, 3), 90, np.uint8))
    lines = [record.getMessage() for record in caplog.records if "threshold" in record.getMessage()]
    assert len(lines) == len(THRESHOLDS)
    (middle,) = [line for line in lines if line.startswith("threshold 0.50")]
    assert float(middle.split("IoU_fg ")[1].split()[0]) > 0.8
    assert float(middle.split("blindly ")[1].split(",")[0]) < 0.3
    assert float(middle.split("area ")[1].split(";")[0]) == pytest.approx(400 / 4096, abs=0.02)
    assert middle.endswith("a region in 0.000 of clean renders")
