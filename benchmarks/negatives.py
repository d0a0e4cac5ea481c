"""Clean negatives of tinytown, by the limit of the verifier: `python -m benchmarks.negatives`, minutes of one core.

Every scene makes the round trip of the recipe `tinytown-negatives`; the annotator, which shares no code with the
verifier, judges the result.
"""

from __future__ import annotations

import argparse

import numpy as np
from rich.console import Console
from rich.table import Table

from actors.batch import Sample
from actors.images import read_image
from benchmarks.methods.marks import BROKEN
from factory.pipeline.stages import corruptor, image_selector, load, region_selector
from factory.recipe.recipe import load_recipe
from factory.sources import open_source
from tinytown.annotator import annotate
from tinytown.scene import parse

FIRST_SEED = 8_000_000
CONTROL = 64
"""Scenes of which the round trip is also compared with the autoencoder alone."""

LIMITS = (1.0, 0.02, 0.005, 0.001, 0.0)
console = Console(width=110)


def made(scenes: int, baseline: str) -> list[Sample]:
    """Scenes after the round trip, none of them rejected."""
    changes = [f"source.limit={scenes}", f"verify.baseline={baseline}", "verify.on_failure=keep"]
    recipe = load_recipe("tinytown-negatives", [f"source.first_seed={FIRST_SEED}", *changes])
    source = open_source(recipe.source, recipe.seed)
    loaded = load(source, list(source.list()), image_selector(recipe))
    return corruptor(recipe)(region_selector(recipe)(loaded))


def marked(sample: Sample) -> int:
    """Pixels that the annotator marks."""
    assert sample.corrupted is not None
    return int(annotate(read_image(sample.corrupted), parse(sample.caption)).mask.sum())


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--scenes", type=int, default=512)
    scenes = parser.parse_args().scenes
    samples = made(scenes, "original")
    changed = np.array([sample.metrics["changed_area"] for sample in samples])
    broken = np.array([marked(sample) >= BROKEN for sample in samples])
    table = Table(
        "most_outside", "accepted", "broken", "with a changed pixel", title=f"{len(samples)} scenes"
    )
    for limit in LIMITS:
        accepted = changed <= limit
        shares = (accepted.mean(), broken[accepted].mean(), (changed[accepted] > 0).mean())
        table.add_row(f"{limit:g}", *(f"{share:.1%}" for share in shares))
    console.print(table)
    control = made(min(scenes, CONTROL), "autoencoder")
    alone = [sample.metrics["changed_area"] for sample in control]
    console.print(
        f"against the autoencoder alone: {np.count_nonzero(alone)} of {len(alone)} have a changed pixel"
    )


if __name__ == "__main__":
    main()
