"""Trains tinytown's autoencoder. `python -m tools.tinytown.vae --out DIR` resumes where it was stopped.

L1 and L1 of image gradients, weighted towards objects and most towards faces and hands, and a light KL term.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import time
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor

from tools.tinytown.data import HELD_OUT, Renders, renders
from tools.tinytown.state import load_state, save_state

log = logging.getLogger(__name__)

BATCH = 12
LEARNING_RATE = 2e-3
KL_WEIGHT = 5e-4
DETAIL_WEIGHTS = torch.tensor([1.0, 2.0, 4.0])
TRAIN_SCENES = 40_000


def build() -> AutoencoderKL:
    """The untrained autoencoder: 64x64 RGB in [-1, 1] to 4 latent channels at 16x16."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(32, 48, 64),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=8,
        sample_size=64,
        mid_block_add_attention=False,
    )


def tensor(images: np.ndarray) -> Tensor:
    """uint8 [N, H, W, 3] to float32 [N, 3, H, W] in [-1, 1]."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).float().div(127.5).sub(1)


def train(out: Path, steps: int, seed: int = 0) -> None:
    """Trains up to `steps` steps in all, then writes the model, with its scaling factor, to `out/vae`."""
    torch.manual_seed(seed)
    data = renders(0, TRAIN_SCENES, cache=out / "data")
    vae = build().to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(vae.parameters(), lr=LEARNING_RATE, weight_decay=1e-4)
    start = load_state(out / "vae-state", vae, optimizer)
    began = time.monotonic()
    for step in range(start, steps):
        for group in optimizer.param_groups:
            group["lr"] = _rate(step, steps)
        # Drawn from (seed, step) alone, so that a resumed run has the same batches as an uninterrupted one.
        rng = np.random.default_rng((seed, step))
        rows = rng.integers(0, len(data.images), BATCH)
        generator = torch.Generator().manual_seed(seed * 10_000_000 + step)
        detail = torch.from_numpy(data.detail[rows]).long()
        loss = _loss(vae, tensor(data.images[rows]), detail, generator)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimizer.step()
        if step % 200 == 199:
            speed = (step + 1 - start) / (time.monotonic() - began)
            log.info("step %d loss %.4f %.2f steps/s", step + 1, loss.item(), speed)
        if step % 500 == 499:
            save_state(out / "vae-state", vae, optimizer)
    save_state(out / "vae-state", vae, optimizer)
    vae.eval()
    vae.register_to_config(scaling_factor=_scaling_factor(vae, data))
    vae.half().save_pretrained(out / "vae")
    log.info("held out: %s", json.dumps(evaluate(AutoencoderKL.from_pretrained(out / "vae"))))


def evaluate(vae: AutoencoderKL, count: int = 500) -> dict[str, float]:
    """PSNR in dB on held-out renders: of all pixels, and of the pixels of faces and hands alone."""
    data = renders(HELD_OUT, count)
    squares, hard = [], []
    with torch.no_grad():
        for first in range(0, count, 50):
            images = tensor(data.images[first : first + 50])
            back = vae.decode(vae.encode(images).latent_dist.mode()).sample.clamp(-1, 1)
            squares.append(((back - images) / 2).square().mean(1))
            hard.append(torch.from_numpy(data.detail[first : first + 50] == 2))
    square, where = torch.cat(squares), torch.cat(hard)
    return {
        "psnr": -10 * math.log10(square.mean().item()),
        "psnr_faces_hands": -10 * math.log10(square[where].mean().item()),
    }


def _rate(step: int, steps: int) -> float:
    """Constant after a short warm-up, then a cosine to zero over the last 40 %."""
    decay = max(0.0, (step / steps - 0.6) / 0.4)
    return LEARNING_RATE * min(1.0, (step + 1) / 100) * (0.5 + 0.5 * math.cos(math.pi * decay))


def _loss(vae: AutoencoderKL, images: Tensor, detail: Tensor, generator: torch.Generator) -> Tensor:
    weight = DETAIL_WEIGHTS[detail][:, None]
    weight = weight / weight.mean()
    with torch.autocast("cpu", torch.bfloat16):
        posterior = vae.encode(images.contiguous(memory_format=torch.channels_last)).latent_dist
        back = vae.decode(posterior.sample(generator)).sample
    error = back.float() - images
    across = (error[..., 1:] - error[..., :-1]).abs() * weight[..., 1:]
    down = (error[..., 1:, :] - error[..., :-1, :]).abs() * weight[..., 1:, :]
    kl = posterior.kl().float().mean() / images[0].numel()
    return (error.abs() * weight).mean() + 0.5 * (across.mean() + down.mean()) + KL_WEIGHT * kl


def _scaling_factor(vae: AutoencoderKL, data: Renders) -> float:
    """1 / standard deviation of the latents, as Stable Diffusion's 0.18215 is."""
    with torch.no_grad():
        latents = [
            vae.encode(tensor(data.images[first : first + 64])).latent_dist.mode()
            for first in range(0, 2048, 64)
        ]
    return round(1 / torch.cat(latents).std().item(), 5)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="work folder: data, state and result")
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(arguments.threads)
    train(arguments.out, arguments.steps)
