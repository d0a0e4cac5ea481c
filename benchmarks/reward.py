"""Where the gradient of the reward changes images. `python -m benchmarks.reward`.

Takes images with known artifacts and follows the gradient of `flawforge.load_reward` for some steps, towards fewer
artifacts (descent) and towards more (ascent). Prints the mean absolute change per pixel inside and outside the true
masks with their ratio, and beside it the ratio under the masks of other images, which is chance.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from torch import Tensor

from eval.labelled import read_labelled
from eval.splits import open_split
from flawforge import load_reward

Score = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Images [B, 3, H, W] in 0 to 1 to scores [B] and probabilities [B, H, W]."""


@dataclass(frozen=True)
class Change:
    """Mean absolute change per pixel and channel, in levels of 0 to 255, over all pixels of all images.

    Attributes:
        inside, outside: of the true masks.
        by_chance: inside divided by outside where every image has the next one's mask.
        before, after: mean score.
    """

    inside: float
    outside: float
    by_chance: float
    before: float
    after: float

    @property
    def ratio(self) -> float:
        return self.inside / self.outside


def follow(reward: Score, images: Tensor, *, steps: int, length: float, direction: int) -> Tensor:
    """Moves every image by `steps` steps along its own gradient of the score, and keeps it within 0 to 1.

    Args:
        reward: see `Score`.
        images: [B, 3, H, W] in 0 to 1.
        steps: their number.
        length: of a step: root mean square over the image, in units of full scale.
        direction: 1 towards more artifacts, -1 towards fewer.
    """
    moved = images.clone()
    for _ in range(steps):
        moved.requires_grad_(True)
        (gradient,) = torch.autograd.grad(reward(moved)[0].sum(), moved)
        size = gradient.square().mean((1, 2, 3), keepdim=True).sqrt()
        # No pixel above the threshold, no gradient: such an image stays as it is.
        step = torch.where(size > 0, gradient / size, 0)
        moved = (moved.detach() + direction * length * step).clamp(0, 1)
    return moved


def change(reward: Score, images: Tensor, moved: Tensor, masks: NDArray[np.bool_]) -> Change:
    """Compares images before and after with their true masks, bool [B, H, W]."""
    size = (255 * (moved - images).abs().mean(1)).double().numpy()
    others = np.roll(masks, 1, axis=0)
    with torch.no_grad():
        before, after = (float(reward(one)[0].mean()) for one in (images, moved))
    return Change(
        inside=float(size[masks].mean()),
        outside=float(size[~masks].mean()),
        by_chance=float(size[others].mean() / size[~others].mean()),
        before=before,
        after=after,
    )


def samples(urls: Sequence[str], count: int) -> tuple[Tensor, NDArray[np.bool_]]:
    """The first images with a region, of tars or of the validation split: [N, 3, H, W] in 0 to 1, bool [N, H, W]."""
    data = read_labelled(urls) if urls else open_split("validation")
    chosen = np.flatnonzero(data.masks.any((1, 2)))[:count]
    pixels = torch.from_numpy(data.images[chosen]).permute(0, 3, 1, 2).float() / 255
    return pixels, data.masks[chosen]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", default="tinytown/regions-convnext")
    parser.add_argument(
        "--data", nargs="*", default=[], help="tars; default: the validation split of tinytown"
    )
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--steps", type=int, nargs="+", default=[1, 3, 10], help="lengths of a path")
    parser.add_argument(
        "--length", type=float, default=1 / 255, help="root mean square of a step, full scale 1"
    )
    parser.add_argument("--threshold", type=float, default=0.5)
    arguments = parser.parse_args()
    reward = load_reward(arguments.checkpoint, threshold=arguments.threshold)
    images, masks = samples(arguments.data, arguments.images)
    table = Table(
        *("direction", "steps", "inside", "outside", "ratio", "ratio by chance", "score before", "after"),
        title=f"{arguments.checkpoint}: {len(images)} images, threshold {arguments.threshold:g}; change in levels of "
        f"255; masks cover {masks.mean():.1%}",
    )
    for (name, direction), steps in product((("descent", -1), ("ascent", 1)), arguments.steps):
        moved = follow(reward, images, steps=steps, length=arguments.length, direction=direction)
        found = change(reward, images, moved, masks)
        table.add_row(
            name,
            str(steps),
            f"{found.inside:.3f}",
            f"{found.outside:.3f}",
            f"{found.ratio:.2f}",
            f"{found.by_chance:.2f}",
            f"{found.before:.3f}",
            f"{found.after:.3f}",
        )
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
