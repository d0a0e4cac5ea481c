"""Inversion, confinement and verification on the shipped weights. `python -m benchmarks.corruption`.

Prints three tables: the error of the round trip without corruption; how well the change stays in the region; and
what the verifier accepts. Thresholds are looked for on one set of scenes and reported on another.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from actors.corruption import METHODS, draw_noise, latent_mask
from actors.diffusion import DiffusionModel
from actors.images import read_image, read_mask
from actors.inversion import invert, resample
from actors.seeding import seed_for
from actors.verifier import Limits, difference, judge, measure, widen
from factory.recipe import load_recipe
from factory.sources import open_source

CALIBRATION_SEED, REPORT_SEED = 2_000_000, 3_000_000
BATCH = 16
console = Console(width=110)


@dataclass(frozen=True)
class Scenes:
    """Clean scenes with one region each: uint8 [N, 64, 64, 3], bool [N, 64, 64], and their keys."""

    images: np.ndarray
    masks: np.ndarray
    keys: list[str]


@dataclass(frozen=True)
class Passage:
    """Latents and pictures of one inversion and resampling.

    Attributes:
        clean, back, corrupted: latents [N, 4, 16, 16]: z_0, round trip, and with artifacts.
        baseline, broken: uint8 [N, 64, 64, 3], decoded round trip and artifacts.
        cells: bool [N, 1, 16, 16], the region in the latent.
    """

    clean: Tensor
    back: Tensor
    corrupted: Tensor
    baseline: np.ndarray
    broken: np.ndarray
    cells: Tensor


def scenes(first_seed: int, count: int, smallest: float = 0.0, largest: float = 1.0) -> Scenes:
    """The first `count` scenes from a seed on whose region has a share of the picture in these bounds."""
    recipe = load_recipe(
        "quickstart",
        [f"source.first_seed={first_seed}", f"source.limit={4 * count}", "source.parts=[face, hand, letter]"],
    )
    source = open_source(recipe.source, recipe.seed)
    images, masks, keys = [], [], []
    for reference, raw in source.read(list(source.list())):
        assert raw.mask is not None
        mask = read_mask(raw.mask)
        if smallest <= mask.mean() <= largest:
            images.append(read_image(raw.image))
            masks.append(mask)
            keys.append(reference.key)
        if len(keys) == count:
            break
    return Scenes(np.stack(images), np.stack(masks), keys)


def pass_through(
    model: DiffusionModel,
    data: Scenes,
    *,
    k: int,
    iterations: int,
    method: str = "noise",
    decode: bool = True,
) -> Passage:
    """Inverts, corrupts and resamples all scenes."""
    parts: list[tuple[Tensor, ...]] = []
    prompt = model.embed([""]).expand(BATCH, -1, -1)
    for first in range(0, len(data.keys), BATCH):
        images = torch.from_numpy(data.images[first : first + BATCH]).permute(0, 3, 1, 2).float() / 127.5 - 1
        rows, embeds = len(images), prompt[: len(images)]
        clean = model.encode(images)
        inversion = invert(
            model.denoise, model.scheduler, clean, embeds, inversion_steps=k, iterations=iterations
        )
        cells = latent_mask(torch.from_numpy(data.masks[first : first + BATCH]), *clean.shape[-2:])
        seeds = [seed_for(0, key, "corrupt") for key in data.keys[first : first + rows]]
        kept = model.scheduler.alphas_cumprod[inversion.timesteps[-1]]
        noise = draw_noise(seeds, tuple(clean.shape[1:]))
        bad = METHODS[method](inversion.latents, clean, cells, kept, noise)
        back = resample(model.denoise, model.scheduler, inversion.latents, embeds, inversion_steps=k)
        corrupted = resample(model.denoise, model.scheduler, bad, embeds, inversion_steps=k)
        pictures = (_pixels(model, back), _pixels(model, corrupted)) if decode else (torch.zeros(rows),) * 2
        parts.append((clean, back, corrupted, *pictures, cells))
    clean, back, corrupted, baseline, broken, cells = (
        torch.cat(column) for column in zip(*parts, strict=True)
    )
    return Passage(clean, back, corrupted, baseline.numpy(), broken.numpy(), cells)


def round_trip(model: DiffusionModel, count: int) -> None:
    """Relative RMSE of the latent after inversion and resampling without corruption."""
    data = scenes(REPORT_SEED, count // 4)
    table = Table(
        "iterations", "k", "UNet rows", "relative RMSE, all", "median", "99th percentile", title="round trip"
    )
    for iterations in (0, 1, 2, 4):
        for k in (10, 20):
            found = pass_through(model, data, k=k, iterations=iterations, method="none", decode=False)
            error = (found.back - found.clean).square().mean((1, 2, 3))
            size = found.clean.square().mean((1, 2, 3))
            each = (error / size).sqrt()
            table.add_row(
                "0 (DDIM)" if iterations == 0 else str(iterations),
                str(k),
                str(k * (iterations + 2)),
                f"{(error.mean() / size.mean()).sqrt():.2e}",
                f"{each.median():.2e}",
                f"{each.quantile(0.99):.2e}",
            )
    console.print(table)


def confinement(model: DiffusionModel, count: int) -> None:
    """Latent change inside the region against that far from it, and the rings of pixels around it."""
    data = scenes(REPORT_SEED, count, 0.03, 0.25)
    table = Table(
        "k",
        "inside",
        "beyond 4 cells",
        "ratio of medians",
        "ring 0-4 px",
        "ring 4-12 px",
        "beyond 12 px",
        title=f"confinement, {len(data.keys)} samples, medians; latent units, then share of full scale",
    )
    for k in (10, 20):
        found = pass_through(model, data, k=k, iterations=4)
        change = (found.corrupted - found.back).abs().mean(1).numpy()
        cells = found.cells[:, 0].numpy()
        far = np.stack([~widen(one, 4) for one in cells])
        inside = [row[cell].mean() for row, cell in zip(change, cells, strict=True)]
        beyond = [row[cell].mean() for row, cell in zip(change, far, strict=True) if cell.any()]
        rings = np.array(
            [_rings(*rows) for rows in zip(found.baseline, found.broken, data.masks, strict=True)]
        )
        ring = np.nanmedian(rings, axis=0)
        table.add_row(
            str(k),
            f"{np.median(inside):.4f}",
            f"{np.median(beyond):.5f} (n={len(beyond)})",
            f"{np.median(inside) / np.median(beyond):.1f}",
            *(f"{value:.4f}" for value in ring),
        )
    console.print(table)


def acceptance(model: DiffusionModel, count: int) -> None:
    """What the recipe's limits accept: nothing done, the model's own loss, and noise at several k."""
    recipe = load_recipe("quickstart")
    verify = recipe.verify
    limits = Limits(
        verify.changed_threshold, verify.least_inside, verify.most_outside, verify.margin * model.cell
    )
    table = Table("samples", "what", "k", "accepted", "unchanged", "spilled", title=f"verification, {limits}")
    for name, seed, share in (("calibration", CALIBRATION_SEED, 4), ("report", REPORT_SEED, 2)):
        data = scenes(seed, count // share)
        for method, steps in (("none", (20,)), ("noise", (5, 10, 15, 20, 25))):
            for k in steps:
                found = pass_through(model, data, k=k, iterations=recipe.corruption.iterations, method=method)
                if method == "none":
                    _verdicts(
                        table, name, "model's own loss", k, data.images, found.baseline, data.masks, limits
                    )
                _verdicts(table, name, method, k, found.baseline, found.broken, data.masks, limits)
    console.print(table)


def _verdicts(
    table: Table,
    name: str,
    what: str,
    k: int,
    before: np.ndarray,
    after: np.ndarray,
    masks: np.ndarray,
    limits: Limits,
) -> None:
    reasons = []
    for one, other, mask in zip(before, after, masks, strict=True):
        why = judge(measure(difference(one, other), mask, limits)[1], limits)
        reasons.append(why.reason if why else "accepted")
    shares = (
        f"{reasons.count(reason) / len(reasons):.1%}" for reason in ("accepted", "unchanged", "spilled")
    )
    table.add_row(name, what, str(k), *shares)


def _rings(baseline: np.ndarray, broken: np.ndarray, mask: np.ndarray) -> tuple[float, float, float]:
    """Mean difference at 0 to 4, 4 to 12, and more than 12 pixels from the region."""
    distance = np.abs(baseline.astype(float) - broken.astype(float)).mean(2) / 255
    near, wide = widen(mask, 4), widen(mask, 12)
    places = (near & ~mask, wide & ~near, ~wide)
    first, second, third = (
        float(distance[place].mean()) if place.any() else float("nan") for place in places
    )
    return first, second, third


def _pixels(model: DiffusionModel, latents: Tensor) -> Tensor:
    return model.decode(latents).add(1).mul(127.5).round().to(torch.uint8).permute(0, 2, 3, 1)


TABLES = {"round-trip": round_trip, "confinement": confinement, "acceptance": acceptance}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tables", nargs="*", default=list(TABLES), help=", ".join(TABLES))
    parser.add_argument("--samples", type=int, default=256)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    shipped = DiffusionModel("tinytown", device="cpu")
    for name in arguments.tables:
        TABLES[name](shipped, arguments.samples)
