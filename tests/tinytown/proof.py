"""What an annotator finds of planted damage, and what it marks elsewhere.

Run as a program it prints a line per kind: `python -m tests.tinytown.proof --count 25 --kind bent_hand`.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from tests.tinytown.passage import Passed, through, visible_plants
from tests.tinytown.planted import KINDS
from tinytown.annotator import annotate
from tinytown.render import render
from tinytown.scene import Scene, sample_scene

REACH = 2
"""Pixels that a mark may lie beside the damage."""

CLEAN_SEEDS = 9_000_000
"""First seed of the clean renders; plants draw theirs below 2**40, so a seed in common is of no account."""

Marks = Callable[[NDArray[np.uint8], Scene], NDArray[np.bool_]]
"""An annotator: image and scene to the marked pixels, bool [64, 64]."""


@dataclass(frozen=True)
class Finding:
    """Of one kind of damage.

    Attributes:
        kind: one of `planted.KINDS`.
        plants: how many were looked at.
        found: how many of them were marked.
        marked: marked pixels in all of their images together.
        outside: those of them that lie more than `REACH` pixels from what the plant touched.
        tried: seeds that it took, with those whose damage could not be seen after the VAE.
    """

    kind: str
    plants: int
    found: int
    marked: int
    outside: int
    tried: int

    def __str__(self) -> str:
        return (
            f"{self.kind:16} found {self.found / self.plants:6.1%} of {self.plants}, outside "
            f"{self.outside / max(1, self.marked):6.1%} of {self.marked} pixels, "
            f"unseen {1 - self.plants / self.tried:5.1%} of {self.tried} seeds"
        )


def marks(image: NDArray[np.uint8], scene: Scene) -> NDArray[np.bool_]:
    """What the annotator of tinytown marks."""
    return annotate(image, scene).mask


def measure(kind: str, count: int, annotator: Marks = marks, processes: int = 1) -> Finding:
    """Lets an annotator look at `count` plants of a kind that went through the VAE."""
    plants, tried = visible_plants(kind, count)
    cases = [(passed.damaged, passed.planted.scene) for passed in plants]
    masks = _look(annotator, cases, processes)
    found = sum(is_found(mask, passed) for mask, passed in zip(masks, plants, strict=True))
    outside = sum(count_outside(mask, passed) for mask, passed in zip(masks, plants, strict=True))
    return Finding(kind, count, found, sum(int(mask.sum()) for mask in masks), outside, tried)


def measure_clean(count: int, annotator: Marks = marks, processes: int = 1) -> NDArray[np.float64]:
    """The marked share of the area of clean renders that went through the VAE: float64 [count], 0 to 1."""
    scenes = [sample_scene(CLEAN_SEEDS + number) for number in range(count)]
    images = through(np.stack([render(scene).image for scene in scenes]))
    masks = _look(annotator, list(zip(images, scenes, strict=True)), processes)
    return np.array([mask.mean() for mask in masks])


def is_found(mask: NDArray[np.bool_], passed: Passed) -> bool:
    """Whether the marks meet the planted damage, with `REACH` pixels around it, in 4 pixels or a fifth of it."""
    damage = passed.planted.damage
    return int((mask & within_reach(damage)).sum()) >= min(4, 0.2 * int(damage.sum()))


def count_outside(mask: NDArray[np.bool_], passed: Passed) -> int:
    """Marked pixels more than `REACH` pixels from what the plant touched."""
    return int((mask & ~within_reach(passed.touched)).sum())


def within_reach(area: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The pixels of an area, which is not empty, and those at most `REACH` from one of them."""
    return np.asarray(distance_transform_edt(~area) <= REACH)


def _look(
    annotator: Marks, cases: Sequence[tuple[NDArray[np.uint8], Scene]], processes: int
) -> list[NDArray[np.bool_]]:
    if processes == 1:
        return [annotator(image, scene) for image, scene in cases]
    with ProcessPoolExecutor(processes) as pool:
        return list(pool.map(partial(_apply, annotator), cases, chunksize=4))


def _apply(annotator: Marks, case: tuple[NDArray[np.uint8], Scene]) -> NDArray[np.bool_]:
    return annotator(*case)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=25, help="plants of every kind, and clean renders")
    parser.add_argument("--kind", choices=KINDS, help="one kind only")
    parser.add_argument("--processes", type=int, default=1)
    options = parser.parse_args()
    findings = []
    for kind in [options.kind] if options.kind else KINDS:
        findings.append(measure(kind, options.count, processes=options.processes))
        print(findings[-1], flush=True)
    print(f"outside, all kinds: {outside_share(findings):.1%}", flush=True)
    if not options.kind:
        shares = measure_clean(options.count, processes=options.processes)
        print(f"clean renders: {shares.mean():.2%} of the area marked, at most {shares.max():.1%}")


def outside_share(findings: Sequence[Finding]) -> float:
    """Of all the marked pixels of all kinds together."""
    return sum(finding.outside for finding in findings) / max(1, sum(finding.marked for finding in findings))


if __name__ == "__main__":
    main()
