"""How well a corruption stays in its region, on the shipped weights. `python -m benchmarks.confinement`.

Nothing is pasted at any step: what lies outside the region passes through inversion and resampling like the rest.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from actors.corruption.methods import draw_noise, to_latent_mask
from actors.corruption.round_trip import RoundTrip
from actors.corruption.verifier import widen
from actors.diffusion.model import DiffusionModel
from actors.images import read_image, read_mask
from actors.seeding import seed_for
from factory.recipe.recipe import load_recipe
from factory.sources import open_source

FIRST_SEED = 3_000_000
SMALLEST, LARGEST = 0.03, 0.25
"""Share of the image that a region has."""

STEPS = (10, 20)
BATCH = 32
FAR = 4
"""Latent pixels around the region that count neither as inside nor as beyond."""


def scenes(count: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_], list[str]]:
    """Scenes with one region each, uint8 [N, 64, 64, 3] and bool [N, 64, 64], and their keys."""
    changes = [
        f"source.first_seed={FIRST_SEED}",
        f"source.limit={4 * count}",
        "source.parts=[face, hand, letter]",
    ]
    recipe = load_recipe("quickstart", changes)
    source = open_source(recipe.source, recipe.seed)
    images, masks, keys = [], [], []
    for reference, raw in source.read(list(source.list())):
        mask = read_mask(raw.mask)
        if SMALLEST <= mask.mean() <= LARGEST and len(keys) < count:
            images.append(read_image(raw.image))
            masks.append(mask)
            keys.append(reference.key)
    return np.stack(images), np.stack(masks), keys


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=256)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    round_trip = RoundTrip(DiffusionModel("tinytown"))
    images, masks, keys = scenes(given.samples)
    found = {steps: [] for steps in STEPS}
    for first in range(0, len(keys), BATCH):
        rows = slice(first, first + BATCH)
        for steps, figures in _measured(round_trip, images[rows], masks[rows], keys[rows]).items():
            found[steps] += figures
    table = Table(
        "k", "inside", "beyond 4 latent px", "ratio", "ring 0-4 px", "ring 4-12 px", "beyond 12 px",
        title=f"{len(keys)} samples, medians; latent units, then share of full scale",
    )  # fmt: skip
    for steps, figures in found.items():
        inside, beyond, *rings = np.nanmedian(np.array(figures), axis=0)
        cells = (
            f"{inside:.4f}",
            f"{beyond:.5f}",
            f"{inside / beyond:.0f}",
            *(f"{ring:.4f}" for ring in rings),
        )
        table.add_row(str(steps), *cells)
    Console(width=110).print(table)


def _measured(
    round_trip: RoundTrip, images: NDArray[np.uint8], masks: NDArray[np.bool_], keys: list[str]
) -> dict[int, list[list[float]]]:
    """By k and sample: latent change inside and beyond the region, and pixel change in three rings around it."""
    side = images.shape[1] // round_trip.model.vae_scale_factor
    inverted = round_trip.invert(images, to_latent_mask(torch.from_numpy(masks), side, side), STEPS)
    noise = draw_noise([seed_for(0, key, "corrupt") for key in keys], tuple(inverted.clean.shape[1:]))
    figures = {}
    for steps in STEPS:
        broken = round_trip.draw(inverted, "noise", steps, noise)
        latents = [
            round_trip.resampled_latents(start, inverted.prompts, steps)
            for start in (inverted.at[steps], broken)
        ]
        decoded = [round_trip.model.decode(one) for one in latents]
        change = (latents[1] - latents[0]).abs().mean(1).numpy()
        moved = np.abs(decoded[1].astype(float) - decoded[0]).mean(3) / 255
        figures[steps] = [
            [_mean(row, region), _mean(row, ~widen(region, FAR)), *_rings(pixels, mask)]
            for row, region, pixels, mask in zip(
                change, inverted.latent_mask[:, 0].numpy(), moved, masks, strict=True
            )
        ]
    return figures


def _rings(moved: NDArray[np.float64], mask: NDArray[np.bool_]) -> list[float]:
    """Mean difference at 0 to 4, 4 to 12, and more than 12 pixels from the region."""
    near, wide = widen(mask, 4), widen(mask, 12)
    return [_mean(moved, place) for place in (near & ~mask, wide & ~near, ~wide)]


def _mean(values: NDArray[np.floating], place: NDArray[np.bool_]) -> float:
    return float(values[place].mean()) if place.any() else float("nan")


if __name__ == "__main__":
    main()
