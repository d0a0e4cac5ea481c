"""The task of segmentation: slots become examples, examples a batch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from actors.errors import BadSample
from tests.train.small import data_of, drawn, recipe_of, tar_of
from tests.upernet import save_upernet
from train.recipe import TrainingRecipe
from train.segmentation import LabelledImage, Segmentation


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_upernet(tmp_path_factory.mktemp("net"))


@pytest.fixture(scope="module")
def tar(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    return tar_of(folder / "small.tar", drawn(4, 16), ("t0.png", b"no image"), ("t0.mask.png", b"no mask"))


def task_of(recipe: TrainingRecipe, tar: Path) -> Segmentation:
    return Segmentation(recipe, [data_of(tar)], None)


def example(side: tuple[int, int], value: int = 255) -> LabelledImage:
    return LabelledImage(np.full((*side, 3), value, np.uint8), np.ones(side, np.uint8))


def test_a_slot_is_a_place_in_the_order(net: Path, tar: Path) -> None:
    recipe = recipe_of(net, batch=3, bad_samples="skip", augmentation={"flip": 0.0})
    task = task_of(recipe, tar)
    pairs = drawn(4, 16)
    for step in range(4):
        for slot in range(3):
            draw = task.order.at(3 * step + slot)
            found = task.read(step, slot)
            assert found.data_set == "small"
            if draw.row == 4:
                assert found.key == "000000/t0" and found.example is None and "not a PNG" in found.problem
                continue
            assert found.example is not None and found.key == f"000000/s{draw.row:02d}" and not found.problem
            image, mask = pairs[draw.row]
            assert (found.example.image == image).all() and (found.example.label == mask).all()


def test_a_bad_sample_is_refused(net: Path, tar: Path) -> None:
    task = task_of(recipe_of(net, batch=5), tar)
    with pytest.raises(BadSample, match=f"{tar}, t0: image: not a PNG"):
        for slot in range(5):
            task.read(0, slot)


def test_unequal_images_are_padded_with_ignored_pixels(net: Path, tar: Path) -> None:
    batch = task_of(recipe_of(net, precision="float32"), tar).collate([example((4, 40)), example((5, 3))])
    # At least the 32 pixels that a network of stride 32 needs.
    assert batch.pixels.shape == (2, 3, 32, 40) and batch.pixels.dtype == torch.float32
    assert batch.pixels.is_contiguous(memory_format=torch.channels_last)
    white, black = (1 - 0.485) / 0.229, -0.485 / 0.229
    for row, (height, width) in enumerate([(4, 40), (5, 3)]):
        known = torch.zeros(32, 40, dtype=torch.bool)
        known[:height, :width] = True
        assert torch.equal(batch.labels[row] == 1, known) and torch.equal(batch.labels[row] == 255, ~known)
        expected = torch.where(known, white, black)
        assert torch.allclose(batch.pixels[row, 0], expected, atol=1e-5)


@pytest.mark.parametrize(
    ("policy", "bad_samples", "examples", "rows"),
    [
        ("frozen", "skip", 0, 1),
        ("frozen", "skip", 1, 1),
        ("per_worker", "refuse", 1, 1),
        ("per_worker", "skip", 0, 2),
        ("per_worker", "skip", 1, 2),
        ("per_worker", "skip", 3, 3),
        ("synchronised", "skip", 1, 2),
    ],
)
def test_batches_that_are_too_small(
    net: Path, tar: Path, policy: str, bad_samples: str, examples: int, rows: int
) -> None:
    task = task_of(recipe_of(net, model={"batch_norm": policy}, bad_samples=bad_samples), tar)
    batch = task.collate([example((8, 8), 10 * number) for number in range(1, examples + 1)])
    assert len(batch.pixels) == len(batch.labels) == rows and batch.pixels.dtype == torch.float64
    assert task.units(batch) == 64 * examples and (batch.labels[examples:] == 255).all()
    if examples:
        assert all(torch.equal(row, batch.pixels[0]) for row in batch.pixels[examples:])
    # A step without any image goes through the network, too.
    task.training_mode()
    if policy == "frozen" or rows > 1:
        assert torch.isfinite(task.module(batch))


def test_an_empty_batch_has_the_size_of_a_crop(net: Path, tar: Path) -> None:
    batch = task_of(recipe_of(net, augmentation={"crop": 48}), tar).collate([])
    assert batch.pixels.shape == (1, 3, 48, 48) and (batch.labels == 255).all()
