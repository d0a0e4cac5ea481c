"""The region selectors on validation and on clean renders. `python -m benchmarks.regions`.

Prints a curve over thresholds for each selector: what it finds in wild images, with chance beside it, and in how many
clean renders it chooses a region at all, which is what the factory lives on. The threshold is chosen from this.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from actors.diffusion.model import DiffusionModel
from actors.segmentation.segmenter import Segmenter
from eval.evaluate import best_threshold, random_iou
from eval.labelled import Labelled
from eval.metrics import average_precision, counts, iou_fg
from eval.splits import open_split
from factory.recipe.recipe import load_recipe
from tools.tinytown.data import renders
from tools.tinytown.segmenter import KINDS, round_trip

THRESHOLDS = tuple(round(0.05 * step, 2) for step in range(1, 20))
LEAST_CLEAN = 0.8
"""Share of clean renders in which a region must be chosen."""

CLEAN_SEED = 5_000_000
console = Console(width=110)


def curve(name: str, validation: Labelled, clean: NDArray[np.uint8]) -> None:
    """Prints a selector's curve, its average precision, and the threshold chosen from the curve."""
    recipe = load_recipe("quickstart")
    smallest, largest = recipe.regions.smallest_area, recipe.regions.largest_area
    segmenter = Segmenter(f"tinytown/regions-{name}")
    scores, scores_of_clean = segmenter(validation.images), segmenter(clean)
    table = Table(
        "threshold",
        "IoU_fg",
        "by chance",
        "area",
        "clean: any region",
        f"clean: {smallest:.1%} to {largest:.0%}",
        title=f"regions-{name}, {len(validation.keys)} validation images, {len(clean)} clean renders",
    )
    allowed = []
    for threshold in THRESHOLDS:
        found, areas = scores >= threshold, (scores_of_clean >= threshold).mean((1, 2))
        figure, chance = iou_fg(counts(validation.masks, found)), random_iou(validation.masks, found)
        usable = float(((areas > 0) & (areas >= smallest) & (areas <= largest)).mean())
        allowed += [threshold] if usable >= LEAST_CLEAN else []
        table.add_row(
            f"{threshold:.2f}",
            f"{figure.value:.3f} [{figure.low:.3f}, {figure.high:.3f}]",
            f"{chance.value:.3f} [{chance.low:.3f}, {chance.high:.3f}]",
            f"{found.mean():.1%}",
            f"{(areas > 0).mean():.1%}",
            f"{usable:.1%}",
        )
    console.print(table)
    best = best_threshold(validation.masks, scores, THRESHOLDS)
    chosen = f"{best_threshold(validation.masks, scores, allowed):.2f}" if allowed else "none"
    console.print(
        f"pixel AP {average_precision(validation.masks, scores):.3f}; truth covers {validation.masks.mean():.1%}; "
        f"best threshold {best:.2f}; best of those with a region in {LEAST_CLEAN:.0%} of clean renders: {chosen}"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("selectors", nargs="*", default=list(KINDS), help=", ".join(KINDS))
    parser.add_argument("--clean", type=int, default=300, help="clean renders")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    # After the autoencoder, like every image that a detector is applied to.
    passed = round_trip(
        DiffusionModel("tinytown").vae, renders(CLEAN_SEED, arguments.clean, processes=1).images
    )
    for selector in arguments.selectors:
        curve(selector, open_split("validation"), passed)
