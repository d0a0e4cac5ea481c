"""The benchmark of the reward: its measures by hand, and the figure on a few shipped images."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmarks.reward import change, follow, samples
from flawforge import load_reward


def brightness(images: Tensor) -> tuple[Tensor, Tensor]:
    """The mean of the left half: its gradient is even there, and 0 in the right half."""
    left = images[..., : images.shape[3] // 2]
    return left.mean((1, 2, 3)), images.mean(1)


def test_measures_by_hand():
    images = torch.full((2, 3, 4, 4), 0.5)
    moved = follow(brightness, images, steps=3, length=0.01, direction=1)
    # Root mean square 0.01 with half of the pixels at 0: the others move by 0.01 * sqrt(2), three times.
    step = 0.03 * 2**0.5
    assert torch.allclose(moved[..., :2], torch.tensor(0.5 + step)) and torch.equal(
        moved[..., 2:], images[..., 2:]
    )
    masks = np.zeros((2, 4, 4), np.bool_)
    masks[0, :, :2] = True  # all that moves
    masks[1, :, 1:3] = True  # half of it
    found = change(brightness, images, moved, masks)
    assert found.inside == pytest.approx(255 * step * 12 / 16, rel=1e-5)
    assert found.outside == pytest.approx(255 * step * 4 / 16, rel=1e-5)
    assert found.ratio == pytest.approx(3, rel=1e-5) and found.by_chance == pytest.approx(3, rel=1e-5)
    assert (found.before, found.after) == (pytest.approx(0.5), pytest.approx(0.5 + step))


def test_images_stay_in_range_and_where_there_is_no_gradient():
    images = torch.stack([torch.ones(3, 4, 4), torch.full((3, 4, 4), 0.5)])
    assert torch.equal(follow(brightness, images, steps=2, length=0.1, direction=1)[0], images[0])
    flat = follow(lambda x: ((0 * x).sum((1, 2, 3)), x.mean(1)), images, steps=2, length=0.1, direction=-1)
    assert torch.equal(flat, images)


@pytest.mark.parametrize("direction", [-1, 1])
def test_artifacts_change_more_than_the_rest(direction: int):
    reward = load_reward("tinytown/regions-convnext")
    images, masks = samples([], 8)
    moved = follow(reward, images, steps=3, length=1 / 255, direction=direction)
    found = change(reward, images, moved, masks)
    assert found.ratio > 1.2 and found.ratio > found.by_chance
    assert (found.after - found.before) * direction > 0
