"""Trains a small classifier of tinytown's objects, to count how many objects of its captions a generator draws.

`python -m tools.tinytown.judge --out DIR` resumes where it was stopped and writes `DIR/judge`. It learns from clean
renders, half of them after a round trip through the autoencoder.
"""

from __future__ import annotations

import argparse
import json
import logging
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor, nn

from tinytown.scene import KINDS, SIZE, parse
from tools.tinytown.data import HELD_OUT, renders
from tools.tinytown.objects import COLOURS, Judge, build, present, targets
from tools.tinytown.state import load_state, save_state
from tools.tinytown.vae import TRAIN_SCENES, tensor

log = logging.getLogger(__name__)

SCENES, PASSED = 12_000, 4_000
BATCH = 48
LEARNING_RATE = 3e-3
LARGEST_SHIFT = 3


def train(out: Path, steps: int, seed: int = 0) -> None:
    """Trains up to `steps` steps in all with `out/vae`, then writes `out/judge` and logs its accuracy."""
    torch.manual_seed(seed)
    net = build().to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(net.parameters(), lr=LEARNING_RATE, weight_decay=1e-2)
    start = load_state(out / "judge-state", net, optimizer)
    vae = AutoencoderKL.from_pretrained(out / "vae").eval()
    if start < steps:
        _fit(net, optimizer, vae, out, range(start, steps), seed)
        save_state(out / "judge-state", net, optimizer)
    folder = out / "judge"
    folder.mkdir(exist_ok=True)
    weights = {name: value.contiguous() for name, value in net.state_dict().items()}
    save_file(weights, folder / "model.safetensors")
    config = {"colours": COLOURS, "steps": steps, "seed": seed}
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    log.info("held out: %s", json.dumps(evaluate(Judge.load(folder), vae)))


def evaluate(judge: Judge, vae: AutoencoderKL, count: int = 500) -> dict[str, float]:
    """Shares on held-out renders, as drawn and after the autoencoder.

    Returns:
        `there*`: of the objects that are in the images; `false*`: of the detections that match no object.
    """
    data = renders(HELD_OUT, count, processes=1)
    scenes = [parse(text) for text in data.captions]
    shares = {}
    for name, images in (("", data.images), ("_vae", round_trip(vae, data.images))):
        found = judge(images)
        pairs = list(zip(found, scenes, strict=True))
        there = [present(one, thing) for one, scene in pairs for thing in scene.things]
        right = [any(present([hit], thing) for thing in scene.things) for one, scene in pairs for hit in one]
        shares["there" + name], shares["false" + name] = float(np.mean(there)), 1 - float(np.mean(right))
    return shares


@torch.no_grad()
def round_trip(vae: AutoencoderKL, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """uint8 [N, 64, 64, 3] after encoding and decoding."""
    rows = []
    for first in range(0, len(images), 64):
        with torch.autocast("cpu", torch.bfloat16):
            latents = vae.encode(tensor(images[first : first + 64])).latent_dist.mode()
            back = vae.decode(latents).sample
        rows.append(back.float().clamp(-1, 1).add(1).mul(127.5).round().to(torch.uint8))
    return torch.cat(rows).permute(0, 2, 3, 1).contiguous().numpy()


def _fit(
    net: nn.Module, optimizer: torch.optim.Optimizer, vae: AutoencoderKL, out: Path, steps: range, seed: int
) -> None:
    data = renders(0, TRAIN_SCENES, cache=out / "data", processes=1)
    images = data.images[:SCENES].copy()
    things = [parse(text).things for text in data.captions[:SCENES]]
    passed = round_trip(vae, images[:PASSED])
    log.info("%d renders, %d of them after the autoencoder too", len(images), len(passed))
    began, losses = time.monotonic(), []
    for step in steps:
        rate = LEARNING_RATE * min(1.0, (step + 1) / 50) * min(1.0, 3 * (1 - step / steps.stop))
        for group in optimizer.param_groups:
            group["lr"] = rate
        rng = np.random.default_rng((seed, step))
        drawn, back = rng.integers(0, len(images), BATCH // 2), rng.integers(0, PASSED, BATCH // 2)
        batch = np.concatenate([images[drawn], passed[back]])
        shifts = rng.integers(-LARGEST_SHIFT, LARGEST_SHIFT + 1, (BATCH, 2))
        batch = np.stack([_shifted(one, *shift) for one, shift in zip(batch, shifts, strict=True)])
        wanted = [
            targets(things[row], (int(x), int(y)))
            for row, (x, y) in zip([*drawn, *back], shifts, strict=True)
        ]
        heat = torch.from_numpy(np.stack([one for one, _ in wanted]))
        labels = torch.from_numpy(np.stack([one for _, one in wanted]))
        loss = _loss(net.train(), tensor(batch).contiguous(memory_format=torch.channels_last), heat, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        if step % 100 == 99:
            speed = (step + 1 - steps.start) / (time.monotonic() - began)
            log.info("step %d loss %.4f %.2f steps/s", step + 1, np.mean(losses[-100:]), speed)
            save_state(out / "judge-state", net, optimizer)


def _loss(net: nn.Module, images: Tensor, heat: Tensor, labels: Tensor) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        logits = net(images)
    logits = logits.float()
    # Of 256 cells, two or three hold a centre.
    weight = 1 + 9 * heat
    objectness = F.binary_cross_entropy_with_logits(logits[:, 0], heat, weight)
    kind = F.cross_entropy(logits[:, 1 : 1 + len(KINDS)], labels[:, 0], ignore_index=-1)
    colour = F.cross_entropy(logits[:, 1 + len(KINDS) :], labels[:, 1], ignore_index=-1)
    return 4 * objectness + kind + colour


def _shifted(image: NDArray[np.uint8], x: int, y: int) -> NDArray[np.uint8]:
    """The image moved by (x, y) pixels, its edges repeated."""
    wide = np.pad(
        image, ((LARGEST_SHIFT, LARGEST_SHIFT), (LARGEST_SHIFT, LARGEST_SHIFT), (0, 0)), mode="edge"
    )
    top, left = LARGEST_SHIFT - y, LARGEST_SHIFT - x
    return wide[top : top + SIZE, left : left + SIZE]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="work folder: holds vae/; state and judge/")
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(arguments.threads)
    train(arguments.out, arguments.steps)
