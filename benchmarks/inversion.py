"""What inversion costs and how exact it is: `python -m benchmarks.inversion speed` (or `accuracy`, or `random`).

`speed` prints UNet evaluations, error and images per second of the published settings and of `fast`, and which part of
the gain is owed to what. `accuracy` compares `fast` with plain iteration at k = 5, 10, 15 and 20 on the shipped net, on
scenes on which nothing was chosen; `random` does so on a net of random weights.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from actors.diffusion.conditioning import Conditioning
from actors.diffusion.inversion import Inversion, invert, resample
from actors.diffusion.inversion_config import InversionConfig
from actors.diffusion.model import DiffusionModel
from actors.diffusion.prompts import Prompts
from tinytown.render import render
from tinytown.scene import sample_scene

FIRST_SEED = 6_000_000
"""Of scenes on which nothing was chosen; the evaluations of `fast` were, on those from 4,000,000 and 5,000,000 on."""

RANDOM_NET = Path(__file__).parents[1] / "tests" / "golden" / "tiny_sd"
STEPS = (5, 10, 15, 20)
PUBLISHED = InversionConfig(mode="published")
UNREGULARISED = InversionConfig(mode="published", regularisation=False)


def plain(iterations: int) -> InversionConfig:
    """Fixed-point iteration from x = z, with neither averaging nor regularisation."""
    return InversionConfig(mode="renoise", iterations=iterations, averaging=False, regularisation=False)


@dataclass(frozen=True)
class Net:
    """A model and latents [N, C, h, w] with their prompts, to be inverted."""

    model: DiffusionModel
    latents: Tensor
    prompts: Prompts

    def rows(self, chosen: slice) -> Net:
        return Net(self.model, self.latents[chosen], self.prompts[chosen])

    def invert(self, method: InversionConfig, steps: int, *, keep: bool = False) -> Inversion:
        seeds = [FIRST_SEED + row for row in range(len(self.latents))]
        return invert(
            self.model.denoise,
            self.model.scheduler,
            self.latents,
            Conditioning(self.prompts),
            inversion_steps=steps,
            method=method,
            seeds=seeds,
            keep_trajectory=keep,
        )

    def error(self, latents: Tensor, steps: int) -> Tensor:
        """RMSE of z_0 after resampling, [N]."""
        back = resample(
            self.model.denoise,
            self.model.scheduler,
            latents,
            Conditioning(self.prompts),
            inversion_steps=steps,
        )
        return (back - self.latents).square().mean((1, 2, 3)).sqrt()


def shipped(count: int) -> Net:
    """Renders of tinytown and the shipped weights, with the empty prompt."""
    model = DiffusionModel("tinytown")
    scenes = [render(sample_scene(FIRST_SEED + number)).image for number in range(count)]
    latents = torch.cat([model.encode(np.stack(scenes[n : n + 32])) for n in range(0, count, 32)])
    return Net(model, latents, model.embed([""]).repeat(count))


def random_net(count: int) -> Net:
    """White latents and text states, and the small random net of the golden files."""
    generator = torch.Generator().manual_seed(FIRST_SEED)
    model = DiffusionModel(str(RANDOM_NET))
    latents = torch.randn(count, 4, 16, 16, generator=generator)
    return Net(model, latents, Prompts(torch.randn(count, 77, 32, generator=generator)))


def speed(count: int, batch: int, console: Console) -> None:
    """Images per second of inversion and resampling at k = 10, and where the gain comes from."""
    net = shipped(count)
    settings: dict[str, tuple[InversionConfig, int]] = {
        "published": (PUBLISHED, 1),
        "published, no regularisation": (UNREGULARISED, 1),
        "one plain iteration": (plain(1), 1),
        "fast": (InversionConfig(), 1),
        f"one plain iteration, batch {batch}": (plain(1), batch),
        f"fast, batch {batch}": (InversionConfig(), batch),
    }
    table = Table("settings", "batch", "UNet rows", "RMSE of z_0", "images/s", "times the first")
    seconds: dict[str, float] = {}
    for name, (method, size) in settings.items():
        taken = count if size > 1 else max(2, count // 8)
        net.rows(slice(0, size)).invert(method, 1)
        began = time.perf_counter()
        rows, errors = _passed(net.rows(slice(0, taken)), method, size)
        seconds[name] = (time.perf_counter() - began) / taken
        table.add_row(
            name,
            str(size),
            str(rows),
            f"{errors.mean():.1e}",
            f"{1 / seconds[name]:.2f}",
            f"{seconds['published'] / seconds[name]:.1f}",
        )
    console.print(table)
    first, bare, single, last = (
        seconds[name]
        for name in ("published", "published, no regularisation", "fast", f"fast, batch {batch}")
    )
    console.print(
        f"Of {first / last:.1f} times: {first / bare:.1f} from leaving out regularisation, {bare / single:.1f} from "
        f"fewer rows, {single / last:.1f} from batching."
    )


def _passed(net: Net, method: InversionConfig, batch: int) -> tuple[int, Tensor]:
    """UNet rows per sample of inversion and resampling, and the error of each sample."""
    rows, errors = 0, []
    for first in range(0, len(net.latents), batch):
        part = net.rows(slice(first, first + batch))
        found = part.invert(method, 10)
        rows = int(found.unet_rows[0]) + 10
        errors.append(part.error(found.latents, 10))
    return rows, torch.cat(errors)


def accuracy(count: int, batch: int, console: Console) -> None:
    """Error of the round trip with the shipped net, mean and 99th percentile over samples."""
    _compare(f"tinytown: RMSE of z_0, {count} samples", shipped(count), batch, console)


def accuracy_at_random(count: int, batch: int, console: Console) -> None:
    """The same with random weights."""
    _compare(f"random weights: RMSE of z_0, {count} samples", random_net(count), batch, console)


def _compare(title: str, net: Net, batch: int, console: Console) -> None:
    methods = {
        "plain, 1 iteration": plain(1),
        "plain, 4 iterations": plain(4),
        "fast": InversionConfig(),
        "fast, extra 1": InversionConfig(extra=1),
        "fast, extra 2": InversionConfig(extra=2),
    }
    table = Table("method", *_columns(), title=title)
    for name, method in methods.items():
        table.add_row(name, *_errors(net, method, batch))
    console.print(table)


def _columns() -> list[str]:
    return [f"{words}, k = {k}" for k in STEPS for words in ("rows", "mean", "99 %")]


def _errors(net: Net, method: InversionConfig, batch: int) -> list[str]:
    """One inversion to the deepest k covers the others: their latents are part of its trajectory."""
    errors: dict[int, list[Tensor]] = {k: [] for k in STEPS}
    for first in range(0, len(net.latents), batch):
        part = net.rows(slice(first, first + batch))
        trajectory = part.invert(method, STEPS[-1], keep=True).trajectory
        assert trajectory is not None
        for k in STEPS:
            errors[k].append(part.error(trajectory[:, k], k))
    cells: list[str] = []
    for k in STEPS:
        each = torch.cat(errors[k])
        rows = int(net.rows(slice(0, 1)).invert(method, k).unet_rows[0])
        cells += [str(rows), f"{each.mean():.1e}", f"{each.quantile(0.99):.1e}"]
    return cells


TABLES = {"speed": speed, "accuracy": accuracy, "random": accuracy_at_random}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tables", nargs="*", default=list(TABLES), help=", ".join(TABLES))
    parser.add_argument("--samples", type=int, default=64)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args(arguments)
    torch.set_num_threads(given.threads)
    for name in given.tables:
        TABLES[name](given.samples, given.batch, Console(width=180))


if __name__ == "__main__":
    main()
