"""A plain loop on one machine for the part segmenters: their 12,000 small images fit into memory.

Region selectors and detectors are trained by `train`, as a user's are.
"""

from __future__ import annotations

import contextlib
import copy
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import UperNetForSemanticSegmentation

from actors.segmentation.segmenter import IMAGENET_MEAN, IMAGENET_STD
from tools.tinytown.state import load_state, save_state
from train.optimisation import parameter_groups

IGNORED = 255
"""Label of pixels that the loss ignores; the default of UperNet's own configuration."""


@dataclass(frozen=True, kw_only=True)
class FineTuning:
    """Settings of the loop; the defaults are those of the paper's training.

    Attributes:
        learning_rate: at its peak, after the warm-up; falls linearly (polynomial decay of power 1) to 0.
        betas: of AdamW.
        weight_decay: of matrices and kernels; norms, biases and position tables have none.
        iterations: steps in all.
        batch: images per step.
        warm_up: steps over which the rate rises from 0.
        flip: share of images that are mirrored left to right.
        scale: smallest and largest factor of a random zoom about the centre; (1, 1) for none.
        shift: largest random shift, as a share of the side; 0 for none.
        colour: largest change of a channel's gain, and of its offset in units of full scale; 0 for none.
        seed: of batches and augmentation, which are drawn from (seed, step) alone.
        bf16: run the network in bfloat16 where that is safe; the weights and the loss stay in float32.
        threads: of torch; None leaves them as they are.
        save_every: steps between two writes of the state, where one is saved.
    """

    learning_rate: float = 6e-5
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.01
    iterations: int = 1000
    batch: int = 8
    warm_up: int = 50
    flip: float = 0.5
    scale: tuple[float, float] = (1.0, 1.0)
    shift: float = 0.0
    colour: float = 0.0
    seed: int = 0
    bf16: bool = False
    threads: int | None = None
    save_every: int = 250


def fine_tune(
    net: UperNetForSemanticSegmentation,
    images: NDArray[np.uint8],
    masks: NDArray[np.bool_] | NDArray[np.uint8],
    settings: FineTuning,
    *,
    report: Callable[[int, float], None] = lambda step, loss: None,
    state: Path | None = None,
) -> list[float]:
    """Trains a segmenter in place by cross-entropy and leaves it in evaluation mode.

    Args:
        net: its number of classes must cover the masks' values.
        images: uint8 [N, H, W, 3], RGB.
        masks: bool [N, H, W], True for an artifact; or uint8 class numbers, 255 where there is no label.
        settings: of the loop.
        report: called after every step with the number of steps done and the loss.
        state: a folder that is resumed from and written to; the result is that of an unbroken run.

    Returns:
        The loss of every step that was run here.
    """
    assert len(images) == len(masks) > 0 and images.shape[:3] == masks.shape
    optimizer = torch.optim.AdamW(parameter_groups(net, settings.weight_decay), betas=settings.betas)
    start = load_state(state, net, optimizer) if state else 0
    net.to(memory_format=torch.channels_last).train()
    losses = []
    with _torch_threads(settings.threads), torch.random.fork_rng(devices=[]):
        for step in range(start, settings.iterations):
            # Also for what the network draws itself (stochastic depth), so that a resumed run is an unbroken one.
            torch.manual_seed(settings.seed * 10_000_000 + step)
            for group in optimizer.param_groups:
                group["lr"] = rate(settings, step)
            pixels, labels = draw_batch(images, masks, settings, step)
            with torch.autocast("cpu", torch.bfloat16, enabled=settings.bf16):
                loss = net(pixels, labels=labels).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
            report(step + 1, losses[-1])
            if state and ((step + 1) % settings.save_every == 0 or step + 1 == settings.iterations):
                save_state(state, net, optimizer)
    net.eval()
    return losses


def rate(settings: FineTuning, step: int) -> float:
    """The learning rate of a step, counted from 0."""
    if step < settings.warm_up:
        return settings.learning_rate * (step + 1) / settings.warm_up
    left = (settings.iterations - step) / (settings.iterations - settings.warm_up)
    return settings.learning_rate * left


def draw_batch(
    images: NDArray[np.uint8],
    masks: NDArray[np.bool_] | NDArray[np.uint8],
    settings: FineTuning,
    step: int,
) -> tuple[Tensor, Tensor]:
    """The batch of a step: normalised pixels, float32 [B, 3, H, W], and labels, int64 [B, H, W]."""
    rng = np.random.default_rng((settings.seed, step))
    rows = rng.choice(len(images), settings.batch, replace=len(images) < settings.batch)
    pixels = torch.from_numpy(images[rows]).permute(0, 3, 1, 2).float() / 255
    labels = torch.from_numpy(masks[rows].astype(np.int64))
    mirrored = torch.from_numpy(rng.random(settings.batch) < settings.flip)
    pixels = torch.where(mirrored[:, None, None, None], pixels.flip(-1), pixels)
    labels = torch.where(mirrored[:, None, None], labels.flip(-1), labels)
    if settings.scale != (1.0, 1.0) or settings.shift:
        pixels, labels = _moved(pixels, labels, settings, rng)
    if settings.colour:
        gain, offset = (
            torch.from_numpy(
                rng.uniform(-settings.colour, settings.colour, (settings.batch, 3, 1, 1))
            ).float()
            for _ in range(2)
        )
        pixels = (pixels * (1 + gain) + offset).clamp(0, 1)
    return normalise(pixels), labels


def normalise(pixels: Tensor) -> Tensor:
    """[B, 3, H, W] in [0, 1] to what the network expects, channels last."""
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    return ((pixels - mean) / std).contiguous(memory_format=torch.channels_last)


def save(net: UperNetForSemanticSegmentation, folder: Path) -> None:
    """Writes a folder as transformers does: weights in fp16 safetensors, and how pixels are normalised."""
    copy.deepcopy(net).half().save_pretrained(folder)
    preprocessor = {
        "image_processor_type": "SegformerImageProcessor",
        "do_resize": False,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(IMAGENET_MEAN),
        "image_std": list(IMAGENET_STD),
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor, indent=2) + "\n")


def _moved(
    pixels: Tensor, labels: Tensor, settings: FineTuning, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Zooms and shifts every image by its own draw; what comes in from outside the image has no label."""
    zoom = rng.uniform(*settings.scale, settings.batch)
    shift = rng.uniform(-2 * settings.shift, 2 * settings.shift, (2, settings.batch))
    zero = np.zeros_like(zoom)
    matrices = np.stack([1 / zoom, zero, shift[0], zero, 1 / zoom, shift[1]], axis=1).reshape(-1, 2, 3)
    grid = torch.nn.functional.affine_grid(
        torch.from_numpy(matrices).float(), list(pixels.shape), align_corners=False
    )
    sample = torch.nn.functional.grid_sample
    pixels = sample(pixels, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    # Labels are moved up by one, so that the zeros from outside differ from class 0.
    moved = sample((labels + 1)[:, None].float(), grid, mode="nearest", align_corners=False)[:, 0].long() - 1
    return pixels, torch.where(moved < 0, IGNORED, moved)


@contextlib.contextmanager
def _torch_threads(threads: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    if threads:
        torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
