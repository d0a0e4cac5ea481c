"""A contact sheet of random accepted samples, to be judged by eye.

`python -m benchmarks.sheet out/quickstart docs/quickstart-40.png`: pairs of rows, above the clean image with the
outline of its region, below the image with artifacts.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import webdataset
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

PER_ROW, SCALE, GAP = 10, 2, 6


def sheet(folder: Path, count: int, seed: int) -> NDArray[np.uint8]:
    """uint8 [H, W, 3]; the same seed draws the same keys from the same data set."""
    shards = sorted(str(path) for path in folder.glob("shards/*.tar"))
    samples = list(webdataset.WebDataset(shards, shardshuffle=False).decode("rgb8"))
    chosen = np.random.default_rng(seed).permutation(len(samples))[:count]
    rows = []
    for first in range(0, len(chosen), PER_ROW):
        group = [samples[index] for index in chosen[first : first + PER_ROW]]
        above = [_outlined(one["original.png"], one["mask.png"][..., 0] > 0) for one in group]
        below = [one["image.png"] for one in group]
        block = np.concatenate([np.concatenate(above, 1), np.concatenate(below, 1)])
        rows += [block, np.full((GAP, *block.shape[1:]), 255, np.uint8)]
    return np.concatenate(rows[:-1]).repeat(SCALE, 0).repeat(SCALE, 1)


def _outlined(image: NDArray[np.uint8], mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    return np.where((mask & ~ndimage.binary_erosion(mask))[..., None], np.array([0, 255, 0], np.uint8), image)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path, help="a data set that has its originals")
    parser.add_argument("png", type=Path)
    parser.add_argument("--count", type=int, default=40)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    Image.fromarray(sheet(arguments.output, arguments.count, arguments.seed)).save(arguments.png)
