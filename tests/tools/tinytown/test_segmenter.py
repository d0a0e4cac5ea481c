"""Part segmenters: their size and strides, their training images, their score by hand, and a whole small run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import UperNetForSemanticSegmentation

import tools.tinytown.vae
from tests.upernet import save_upernet
from tinytown.render import PARTS, render
from tinytown.scene import sample_scene
from tools.tinytown import segmenter
from tools.tinytown.plain_training import FineTuning
from tools.tinytown.segmenter import KINDS, build, drawn_scenes, mean_iou, round_trip


@pytest.mark.parametrize("kind", KINDS)
def test_the_nets_are_small_and_their_stages_fine(kind: str):
    net = build(kind).eval()
    assert net.config.id2label == dict(enumerate(PARTS))
    assert 2 * sum(value.numel() for value in net.state_dict().values()) < 3.9e6
    with torch.no_grad():
        maps = net.backbone(torch.zeros(1, 3, 64, 64)).feature_maps
        assert [one.shape[-1] for one in maps] == [32, 16, 8, 4]
        assert net(torch.zeros(2, 3, 64, 64)).logits.shape == (2, 24, 64, 64)


def test_images_of_odd_seeds_have_gone_through_the_autoencoder():
    torch.manual_seed(0)
    vae = tools.tinytown.vae.build().eval()
    images, parts = drawn_scenes(3, 4, vae)
    drawn = [render(sample_scene(seed)) for seed in range(3, 7)]
    assert np.array_equal(parts, np.stack([one.parts for one in drawn]))
    for row, seed in enumerate(range(3, 7)):
        if seed % 2:
            with torch.no_grad():
                pixels = torch.from_numpy(drawn[row].image.astype(np.float32) / 127.5 - 1).permute(2, 0, 1)[
                    None
                ]
                back = vae.decode(vae.encode(pixels).latent_dist.mean).sample[0].clamp(-1, 1)
            wanted = (back.permute(1, 2, 0).numpy() + 1) * 127.5
            assert np.abs(images[row] - wanted).max() <= 0.51
        else:
            assert np.array_equal(images[row], drawn[row].image)


def test_a_round_trip_does_not_depend_on_the_batch():
    torch.manual_seed(0)
    vae = tools.tinytown.vae.build().eval()
    images, _ = drawn_scenes(0, 3)
    alone = np.concatenate([round_trip(vae, images[row : row + 1]) for row in range(3)])
    assert np.abs(round_trip(vae, images).astype(int) - alone).max() <= 1


def test_mean_iou_by_hand(tmp_path: Path):
    ones = UperNetForSemanticSegmentation.from_pretrained(save_upernet(tmp_path / "net", bias=9.0)).eval()
    parts = np.zeros((2, 64, 64), np.uint8)
    parts[0, :32] = 1
    # Class 0: nothing found of 6,144 pixels; class 1: 2,048 of 8,192 pixels; the others occur nowhere.
    assert mean_iou(ones, np.zeros((2, 64, 64, 3), np.uint8), parts) == pytest.approx((0 + 0.25) / 2)


def test_a_small_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture):
    monkeypatch.setattr(segmenter, "SCENES", 6)
    monkeypatch.setattr(segmenter, "TESTED", 2)
    caplog.set_level("INFO")
    tools.tinytown.vae.build().save_pretrained(tmp_path / "vae")
    settings = FineTuning(iterations=2, batch=2, bf16=True)
    segmenter.train(tmp_path, "swin", settings)
    assert "mean IoU over parts 0." in caplog.text
    net = UperNetForSemanticSegmentation.from_pretrained(tmp_path / "segmenter-swin")
    assert net.config.num_labels == 24
    assert len(list((tmp_path / "data").glob("parts-0-6-*.npz"))) == 1
    weights = (tmp_path / "segmenter-swin" / "model.safetensors").read_bytes()
    segmenter.train(tmp_path, "swin", settings)
    assert (tmp_path / "segmenter-swin" / "model.safetensors").read_bytes() == weights
