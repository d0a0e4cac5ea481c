"""The loop that fine-tunes segmenters: rates, groups, batches and augmentation by hand; real training on toys."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import UperNetForSemanticSegmentation

from actors.segmentation.segmenter import IMAGENET_MEAN, IMAGENET_STD, Segmenter, load_upernet
from tests.upernet import save_upernet
from tools.tinytown.plain_training import FineTuning, draw_batch, fine_tune, rate, save

STILL = FineTuning(learning_rate=5e-3, iterations=2, batch=4, warm_up=0, flip=0.0)


@pytest.fixture
def net(tmp_path: Path) -> UperNetForSemanticSegmentation:
    return load_upernet(str(save_upernet(tmp_path / "net")))


def toys() -> tuple[np.ndarray, np.ndarray]:
    """Four grey images with a bright square each, which is the artifact."""
    masks = np.zeros((4, 64, 64), bool)
    for number, mask in enumerate(masks):
        mask[8 * number : 8 * number + 24, 16:40] = True
    images = np.where(masks[..., None], 230, 90).astype(np.uint8).repeat(3, axis=-1)
    return images, masks


def test_the_rate_rises_then_falls_to_zero():
    settings = FineTuning(learning_rate=6.0, iterations=10, warm_up=4)
    rates = [rate(settings, step) for step in range(10)]
    assert rates == pytest.approx([1.5, 3, 4.5, 6, 6, 5, 4, 3, 2, 1])


def test_the_defaults_are_the_paper_s():
    settings = FineTuning()
    assert (settings.learning_rate, settings.betas, settings.weight_decay) == (6e-5, (0.9, 0.999), 0.01)
    assert (settings.iterations, settings.batch) == (1000, 8)


def test_two_steps_lower_the_loss(net):
    before = {name: value.clone() for name, value in net.state_dict().items()}
    reported = []
    losses = fine_tune(net, *toys(), STILL, report=lambda step, loss: reported.append((step, loss)))
    assert len(losses) == 2 and losses[1] < losses[0]
    assert reported == [(1, losses[0]), (2, losses[1])]
    assert not net.training
    assert all(not torch.equal(before[name], value) for name, value in net.named_parameters())


def test_a_toy_is_learnt(net):
    images, masks = toys()
    fine_tune(net, images, masks, replace(STILL, iterations=60, flip=0.5))
    pixels, labels = draw_batch(images, masks, STILL, 0)
    with torch.no_grad():
        found = net(pixels).logits.argmax(1).bool()
    truth = labels.bool()
    assert (found & truth).sum() / (found | truth).sum() > 0.8


def test_the_seed_decides(tmp_path: Path):
    def weights(seed: int, bf16: bool = False) -> list[torch.Tensor]:
        one = load_upernet(str(save_upernet(tmp_path / "net")))
        fine_tune(one, *toys(), replace(STILL, flip=0.5, colour=0.1, seed=seed, bf16=bf16))
        return list(one.parameters())

    torch.manual_seed(1)
    first = weights(3)
    torch.manual_seed(2)
    same, other, coarse = weights(3), weights(4), weights(3, bf16=True)
    assert all(torch.equal(a, b) for a, b in zip(first, same, strict=True))
    assert any(not torch.equal(a, b) for a, b in zip(first, other, strict=True))
    assert all(one.dtype == torch.float32 for one in coarse)


def test_the_caller_s_random_numbers_and_threads_stay(net):
    torch.manual_seed(5)
    wanted = torch.rand(3)
    threads = torch.get_num_threads()
    torch.manual_seed(5)
    fine_tune(net, *toys(), replace(STILL, threads=threads + 1))
    assert torch.equal(torch.rand(3), wanted) and torch.get_num_threads() == threads


def test_a_resumed_run_equals_an_unbroken_one(tmp_path: Path):
    settings = replace(STILL, iterations=6, flip=0.5, save_every=2)

    class Stop(Exception):
        pass

    def stop(step: int, loss: float) -> None:
        if step == 5:
            raise Stop

    whole, broken, resumed = (load_upernet(str(save_upernet(tmp_path / "net"))) for _ in range(3))
    losses = fine_tune(whole, *toys(), settings)
    with pytest.raises(Stop):
        fine_tune(broken, *toys(), settings, report=stop, state=tmp_path / "state")
    assert fine_tune(resumed, *toys(), settings, state=tmp_path / "state") == losses[4:]
    for (name, one), other in zip(whole.state_dict().items(), resumed.state_dict().values(), strict=True):
        assert torch.equal(one, other), name


def test_a_batch_is_normalised_and_mirrored_with_its_labels():
    rng = np.random.default_rng(0)
    images, masks = rng.integers(0, 256, (1, 4, 6, 3), dtype=np.uint8), rng.random((1, 4, 6)) < 0.5
    pixels, labels = draw_batch(images, masks, FineTuning(batch=2, flip=1.0), 0)
    assert pixels.dtype == torch.float32 and labels.dtype == torch.int64
    for row in range(2):
        for y in range(4):
            for x in range(6):
                assert labels[row, y, x] == masks[0, y, 5 - x]
                for c in range(3):
                    wanted = (images[0, y, 5 - x, c] / 255 - IMAGENET_MEAN[c]) / IMAGENET_STD[c]
                    assert pixels[row, c, y, x].item() == pytest.approx(wanted, abs=1e-5)


def test_a_batch_holds_different_images_where_there_are_enough():
    images = np.arange(12, dtype=np.uint8)[:, None, None, None].repeat(3, axis=-1)
    masks = np.arange(12, dtype=np.uint8)[:, None, None]
    drawn = [sorted(draw_batch(images, masks, FineTuning(), step)[1].ravel().tolist()) for step in range(20)]
    assert all(len(set(batch)) == 8 for batch in drawn)
    assert len({tuple(batch) for batch in drawn}) > 10 and {one for batch in drawn for one in batch} == {
        *range(12)
    }


def test_zoom_moves_labels_with_pixels_and_leaves_the_outside_without():
    masks = np.random.default_rng(1).integers(0, 3, (1, 8, 8), dtype=np.uint8)
    images = np.full((1, 8, 8, 3), 7, np.uint8)
    settings = FineTuning(batch=1, flip=0.0, scale=(2.0, 2.0))
    nearer = draw_batch(images, masks, settings, 0)[1][0].numpy()
    assert np.array_equal(nearer, masks[0, 2:6, 2:6].repeat(2, axis=0).repeat(2, axis=1))
    farther = draw_batch(images, masks, replace(settings, scale=(0.5, 0.5)), 0)[1][0].numpy()
    outside = np.ones((8, 8), bool)
    outside[2:6, 2:6] = False
    assert np.array_equal(farther == 255, outside)


def test_shift_moves_labels_with_pixels():
    images, masks = toys()
    settings = FineTuning(batch=4, flip=0.0, shift=0.25)
    pixels, labels = draw_batch(images, masks, settings, 0)
    green = pixels[:, 1] * IMAGENET_STD[1] + IMAGENET_MEAN[1]
    # Between the two greys lie edges alone, where a part of a pixel tells nothing.
    plain = ((green - 230 / 255).abs() < 0.01) | ((green - 90 / 255).abs() < 0.01)
    known = plain & (labels != 255)
    assert known.float().mean() > 0.5
    assert torch.equal((green > 0.6)[known], (labels == 1)[known])
    still = draw_batch(images, masks, replace(settings, shift=0.0), 0)[1]
    assert not torch.equal(labels, still)


def test_pixels_without_a_label_have_no_say(net):
    images, masks = toys()
    labels = np.where(masks, np.uint8(1), np.uint8(255))
    (alone,) = fine_tune(net, images, labels, replace(STILL, learning_rate=0.0, iterations=1))
    net.train()
    pixels, truth = draw_batch(images, masks, STILL, 0)
    with torch.no_grad():
        log_probability = net(pixels).logits.log_softmax(1)[:, 1]
    assert alone == pytest.approx(-log_probability[truth == 1].mean().item(), rel=1e-4)


def test_what_was_saved_is_a_segmenter(net, tmp_path: Path):
    images, masks = toys()
    fine_tune(net, images, masks, STILL)
    save(net, tmp_path / "regions")
    files = {path.name for path in (tmp_path / "regions").iterdir()}
    assert files == {"config.json", "model.safetensors", "preprocessor_config.json"}
    assert (tmp_path / "regions" / "model.safetensors").stat().st_size < 2.2 * sum(
        value.numel() for value in net.state_dict().values()
    ) + 40_000
    preprocessor = json.loads((tmp_path / "regions" / "preprocessor_config.json").read_text())
    assert tuple(preprocessor["image_mean"]) == IMAGENET_MEAN
    assert next(net.parameters()).dtype == torch.float32
    assert load_upernet(str(tmp_path / "regions")).dtype == torch.float32
    segmenter = Segmenter(str(tmp_path / "regions"))
    assert next(segmenter.net.parameters()).dtype == torch.float32
    pixels, _ = draw_batch(images, masks, replace(STILL, batch=4), 0)
    order = np.random.default_rng((0, 0)).choice(4, 4, replace=False)
    with torch.no_grad():
        wanted = net(pixels).logits.softmax(1)[:, 1].numpy()
    assert segmenter(images)[order] == pytest.approx(wanted, abs=5e-3)
