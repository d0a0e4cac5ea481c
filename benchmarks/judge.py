"""What a judge is worth: accepted regions of the quickstart with and without it, as tinytown's annotator sees them.

`python -m benchmarks.judge --folder out/detector --samples 512 --sheet judge-40.png --json judge.json`. The annotator
shares no code with the judge. A region is right if the annotator marks at least N pixels of it widened by 2 in the
corrupted image, and fewer than N in the round trip without corruption. N is fixed on other scenes: the smallest number
that 95 % of the regions of clean round trips stay below.

About a second of one core per sample, and the corruption itself twice.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from scipy.stats import binomtest

from actors.batch import Sample
from actors.connected import connected
from actors.corruption.judge import territories
from actors.corruption.verifier import widen
from actors.images import read_image, read_mask
from benchmarks.tinytown import board, enlarged
from factory.pipeline.stages import corruptor, image_selector, load, region_selector
from factory.recipe.recipe import Recipe, load_recipe
from factory.sources import open_source
from tinytown.annotator import annotate
from tinytown.scene import parse

CALIBRATION_SEED, SEED = 8_300_000, 8_200_000
"""First scenes: of those that fix N, and of those that are counted. Neither are of the recipe nor of shipped images."""

BELOW = 0.95
"""Share of the regions of clean round trips in which fewer than N pixels are marked."""

NEAR = 2
"""Pixels around a region in which marks count as its own."""

LATENT_PIXEL = 4
"""Image pixels along a latent pixel of tinytown's autoencoder, in which `verify.margin` counts."""

Marks = NDArray[np.bool_]
console = Console(width=130)


@dataclass(frozen=True)
class Region:
    """A connected region of an accepted sample.

    Attributes:
        key: of the sample.
        before, after: pixels that the annotator marks in it and around, in the round trip and in the corrupted image.
        broken: whether the judge found it broken; True for all without a judge.
    """

    key: str
    before: int
    after: int
    broken: bool

    def right(self, least: int) -> bool:
        """Whether there is an artifact to the annotator, that was not there before."""
        return self.after >= least > self.before


def made(changes: Sequence[str], scenes: int, first_seed: int) -> tuple[Recipe, list[Sample]]:
    """The quickstart's samples of other scenes, rejected ones included."""
    recipe = load_recipe(
        "quickstart", [f"source.first_seed={first_seed}", f"source.limit={scenes}", *changes]
    )
    source = open_source(recipe.source, recipe.seed)
    regions, corrupt, select = region_selector(recipe), corruptor(recipe), image_selector(recipe)
    references, size = list(source.list()), recipe.output.samples_per_shard
    samples: list[Sample] = []
    for first in range(0, len(references), size):
        samples += corrupt(regions(load(source, references[first : first + size], select)))
    return recipe, samples


def round_trips(scenes: int, first_seed: int) -> list[Sample]:
    """Clean images after the quickstart's round trip, with the regions that it would corrupt."""
    changes = [
        "corruption.method=none",
        "corruption.deeper=[]",
        "verify.least_inside=0",
        "verify.most_outside=1",
    ]
    return made(changes, scenes, first_seed)[1]


def marks(sample: Sample) -> Marks:
    """What the annotator marks in the image of a sample."""
    assert sample.corrupted is not None
    return annotate(read_image(sample.corrupted), parse(sample.caption)).mask


def counted(mask: Marks, marked: Marks) -> list[int]:
    """Marked pixels in and around every connected region of a mask."""
    number, count = connected(mask)
    return [int((marked & widen(number == one + 1, NEAR)).sum()) for one in range(count)]


def least_marks(counts: Sequence[int], below: float = BELOW) -> int:
    """The smallest N that at least a share of the counts stay below."""
    ordered = np.sort(np.asarray(counts))
    return int(ordered[int(np.ceil(below * len(ordered))) - 1]) + 1


def regions_of(sample: Sample, before: Marks, after: Marks, margin: int) -> list[Region]:
    """The regions of an accepted sample."""
    assert sample.mask is not None
    mask = read_mask(sample.mask)
    owner, count = territories(mask, margin)
    judged = np.ones_like(mask) if sample.judged is None else read_mask(sample.judged)
    broken = [bool((judged & (owner == one + 1)).any()) for one in range(count)]
    pairs = zip(counted(mask, before), counted(mask, after), broken, strict=True)
    return [Region(sample.key, *pair) for pair in pairs]


def share(right: int, of: int) -> str:
    """A share with Wilson's interval of 95 %."""
    if not of:
        return "-"
    around = binomtest(right, of).proportion_ci(method="wilson")
    return f"{right / of:.1%} of {of} [{100 * around.low:.1f}, {100 * around.high:.1f}]"


def summary(name: str, samples: Sequence[Sample], regions: Sequence[Region], least: int) -> dict[str, Any]:
    """The figures of a variant. An image is right if any of the regions that count is."""
    mine = [one for one in regions if one.broken]
    images = {one.key for one in mine}
    right = {one.key for one in mine if one.right(least)}
    accepted = [sample for sample in samples if not sample.rejected]
    return {
        "name": name,
        "samples": len(samples),
        "accepted": len(accepted),
        "regions": len(mine),
        "regions_right": sum(one.right(least) for one in mine),
        "legal": sum(one.after < least for one in mine),
        "broken_before": sum(one.before >= least for one in mine),
        "images": len(images),
        "images_right": len(right),
        "unet_rows_per_accepted": sum(sample.unet_rows for sample in samples) / max(1, len(accepted)),
        "reasons": dict(Counter(sample.reason for sample in samples if sample.rejected)),
        "inversion_steps": dict(sorted(Counter(sample.inversion_steps for sample in accepted).items())),
    }


def sheet(chosen: Sequence[Sample], after: dict[str, Marks], path: Path) -> None:
    """Before, after, what the judge marks, and what the annotator marks; enlarged, with keys."""
    tiles = []
    for sample in chosen:
        assert sample.image and sample.corrupted and sample.mask
        image, corrupted, mask = (
            read_image(sample.image),
            read_image(sample.corrupted),
            read_mask(sample.mask),
        )
        judged = mask if sample.judged is None else read_mask(sample.judged)
        edge = widen(mask, 1) & ~mask
        panels = [image, np.where(edge[..., None], np.uint8([0, 255, 0]), corrupted)]
        panels += [
            np.where(one[..., None], np.uint8([232, 62, 140]), corrupted // 2)
            for one in (judged, after[sample.key])
        ]
        tiles.append(enlarged(np.concatenate(panels, axis=1), 2))
    board(tiles, [sample.key for sample in chosen], 3).save(path, optimize=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--folder", required=True, help="the judge: of a training, or a shipped name")
    parser.add_argument("--threshold", type=float, help="of the judge; its own by default")
    parser.add_argument("--set", action="append", default=[], help="further changes of the judged recipe")
    parser.add_argument("--samples", type=int, default=512)
    parser.add_argument("--calibration", type=int, default=128, help="other scenes, which fix N")
    parser.add_argument("--sheet", type=Path, help="PNG of 40 accepted samples of the judged recipe")
    parser.add_argument("--json", type=Path, help="file for all figures")
    given = parser.parse_args()
    threshold = "null" if given.threshold is None else given.threshold
    judge = f"verify.judge={{kind: detector, folder: '{given.folder}', threshold: {threshold}}}"

    clean = [one for one in round_trips(given.calibration, CALIBRATION_SEED) if not one.rejected]
    below = [count for one in clean if one.mask for count in counted(read_mask(one.mask), marks(one))]
    least = least_marks(below)
    console.print(
        f"N = {least}: {BELOW:.0%} of {len(below)} regions of {len(clean)} clean round trips have fewer"
    )

    before = {one.key: marks(one) for one in round_trips(given.samples, SEED) if not one.rejected}
    found = []
    for name, changes in (("without a judge", []), ("with the judge", [judge, *given.set])):
        recipe, samples = made(changes, given.samples, SEED)
        accepted = [one for one in samples if not one.rejected]
        after = {one.key: marks(one) for one in accepted}
        margin = recipe.verify.margin * LATENT_PIXEL
        regions = [
            one
            for sample in accepted
            for one in regions_of(sample, before[sample.key], after[sample.key], margin)
        ]
        found.append(summary(name, samples, regions, least))
        if changes and given.sheet:
            places = np.random.default_rng(1).permutation(len(accepted))[:40]
            sheet([accepted[place] for place in sorted(places)], after, given.sheet)
    _print(found)
    if given.json:
        given.json.write_text(json.dumps({"least": least, "variants": found}, indent=1) + "\n")


def _print(found: Sequence[dict[str, Any]]) -> None:
    table = Table(
        "", "accepted", "regions right", "images right", "UNet rows per accepted", "accepted at k", "rejected"
    )
    for one in found:
        table.add_row(
            one["name"],
            share(one["accepted"], one["samples"]),
            share(one["regions_right"], one["regions"]),
            share(one["images_right"], one["images"]),
            f"{one['unet_rows_per_accepted']:.0f}",
            ", ".join(f"{k}: {count}" for k, count in one["inversion_steps"].items()),
            ", ".join(f"{reason} {count}" for reason, count in one["reasons"].items()),
        )
    console.print(table)


if __name__ == "__main__":
    main()
