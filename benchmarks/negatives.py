"""Clean negatives of tinytown, by the limit of the verifier: `python -m benchmarks.negatives`, minutes of one core.

Every scene makes the round trip of the recipe `tinytown-negatives`; the annotator, which shares no code with the
verifier, judges the result.
"""

from __future__ import annotations

import argparse

import numpy as np
from rich.console import Console
from rich.table import Table

from actors.images import read_image
from benchmarks.methods.marks import BROKEN
from factory.pipeline.stages import corruptor, image_selector, load, region_selector
from factory.recipe.recipe import load_recipe
from factory.sources import open_source
from tinytown.annotator import annotate
from tinytown.scene import parse

FIRST_SEED = 8_000_000
LIMITS = (1.0, 0.02, 0.005, 0.001, 0.0)
console = Console(width=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--scenes", type=int, default=512)
    given = parser.parse_args()
    changes = [f"source.first_seed={FIRST_SEED}", f"source.limit={given.scenes}", "verify.on_failure=keep"]
    for baseline in ("original", "autoencoder"):
        recipe = load_recipe("tinytown-negatives", [*changes, f"verify.baseline={baseline}"])
        source = open_source(recipe.source, recipe.seed)
        loaded = load(source, list(source.list()), image_selector(recipe))
        made = corruptor(recipe)(region_selector(recipe)(loaded))
        changed = np.array([sample.metrics["changed_area"] for sample in made])
        if baseline == "autoencoder":
            console.print(f"against the autoencoder alone: at most {changed.max():.2%} of an image changed")
            continue
        marked = np.array([_marked(sample.corrupted or b"", sample.caption) for sample in made])
        table = Table(
            "most_outside", "accepted", "broken", "with a changed pixel", title=f"{len(made)} scenes"
        )
        for limit in LIMITS:
            accepted = changed <= limit
            broken, some = (marked[accepted] >= BROKEN).mean(), (changed[accepted] > 0).mean()
            table.add_row(f"{limit:g}", f"{accepted.mean():.1%}", f"{broken:.1%}", f"{some:.1%}")
        console.print(table)


def _marked(image: bytes, caption: str) -> int:
    return int(annotate(read_image(image), parse(caption)).mask.sum())


if __name__ == "__main__":
    main()
