"""Samples tinytown's wild images: captions that nobody trained on, drawn by a generator that never corrupts."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from actors.diffusion.model import DTYPES, DiffusionModel
from actors.diffusion.prompts import Prompts
from actors.seeding import seed_for
from tools.tinytown.data import unseen

log = logging.getLogger(__name__)

SIZES = {"labelled": 100, "labelled-2000": 2000, "validation": 500, "wild": 2000, "sealed": 500}
"""Images per split."""

FIRST_SEED = 1_100_000_000
"""Beyond all scenes of the splits of versions 1 and 2, and of held-out renders."""
SEEDS_PER_SPLIT = 10_000_000
BATCH = 50
STEPS = 30
GUIDANCE = 2.0
DTYPE = "bfloat16"
"""Of the UNet, which is three times faster in it; latents and the autoencoder stay in float32."""

SETTINGS = {
    "scheduler": "DDIM",
    "steps": STEPS,
    "guidance": GUIDANCE,
    "dtype": DTYPE,
    "batch": BATCH,
    "first_seed": FIRST_SEED,
}
"""The manifest's statement on how the images were made."""

Images = NDArray[np.uint8]
Generate = Callable[[list[str], list[str]], Images]
"""From keys and captions to images, uint8 [N, 64, 64, 3]."""


@dataclass(frozen=True)
class Item:
    """An image to be made.

    Attributes:
        split: a name in `SIZES`.
        key: of the sample, such as `wild-00017`.
        seed: of its scene.
        caption: of its scene.
    """

    split: str
    key: str
    seed: int
    caption: str


def plan(taken: set[str], sizes: Mapping[str, int] = SIZES) -> list[Item]:
    """The items of all splits; no caption is in `taken`, and none comes twice."""
    items: list[Item] = []
    for number, (split, size) in enumerate(sizes.items()):
        known = taken | {item.caption for item in items}
        rows = unseen(FIRST_SEED + number * SEEDS_PER_SPLIT, size, known)
        items += [Item(split, f"{split}-{index:05d}", seed, text) for index, (seed, text) in enumerate(rows)]
    return items


def sampler(folder: Path) -> Generate:
    """Loads a Stable Diffusion folder to sample from; an image's noise comes from its key alone."""
    model = DiffusionModel(str(folder))
    channels, side = model.unet.config.in_channels, model.unet.config.sample_size

    def generate(keys: list[str], captions: list[str]) -> Images:
        noise = [
            torch.randn(
                (channels, side, side), generator=torch.Generator().manual_seed(seed_for(0, key, "wild"))
            )
            for key in keys
        ]
        prompts = Prompts.cat([model.embed([""]).repeat(len(keys)), model.embed(captions)])
        latents = torch.stack(noise)
        model.scheduler.set_timesteps(STEPS)
        for timestep in model.scheduler.timesteps:
            with torch.autocast("cpu", DTYPES[DTYPE]):
                both = model.denoise(torch.cat([latents, latents]), int(timestep), prompts.embeds)
            empty, full = both.chunk(2)
            guided = empty + GUIDANCE * (full - empty)
            latents = model.scheduler.step(guided, int(timestep), latents).prev_sample
        return model.decode(latents)

    return generate


def sample(out: Path, items: list[Item], generator: str, generate: Callable[[], Generate]) -> Images:
    """Images of all items, uint8 [N, 64, 64, 3]; batches that are in `out/wild` are taken from there.

    Args:
        items: what to make, in batches of `BATCH`.
        generator: fingerprint of the weights; together with settings, keys and captions it pins a cached batch.
        generate: loads the generator; called only where a batch is missing.
    """
    folder, loaded, rows = out / "wild", None, []
    folder.mkdir(parents=True, exist_ok=True)
    for number, first in enumerate(range(0, len(items), BATCH)):
        batch = items[first : first + BATCH]
        wanted = _digest([generator, STEPS, GUIDANCE, DTYPE, [(item.key, item.caption) for item in batch]])
        path = folder / f"{number:03d}.npz"
        if path.exists():
            with np.load(path) as stored:
                if str(stored["digest"]) == wanted:
                    rows.append(stored["images"])
                    continue
        loaded = loaded or generate()
        began = time.monotonic()
        rows.append(loaded([item.key for item in batch], [item.caption for item in batch]))
        aside = folder / f"{number:03d}.tmp.npz"
        np.savez(aside, images=rows[-1], digest=np.array(wanted))
        aside.replace(path)
        speed = len(batch) / (time.monotonic() - began)
        log.info("%d of %d images, %.2f a second", first + len(batch), len(items), speed)
    return np.concatenate(rows)


def _digest(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
