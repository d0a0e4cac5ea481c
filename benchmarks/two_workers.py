"""Two workers against one, in float32: `python -m benchmarks.two_workers --curves FILE`.

Two trainings with Ray Train of one recipe, with frozen batch norms and without stochastic depth: one worker, which
accumulates two micro-batches, and two workers. In float64 their losses are equal to 1e-8, which a test checks; in
float32 sums in another order make them drift apart. Printed is by how much, and both curves are drawn.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

import flawforge
from benchmarks.curves import draw, losses_of

BATCH = 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="tinytown/labelled", help="an output of flawforge build, or tars")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--curves", type=Path, required=True, help="a PNG")
    given = parser.parse_args()
    changes = (
        f"iterations={given.steps}",
        f"batch={BATCH}",
        f"execution.micro_batch={BATCH // 2}",
        "model.batch_norm=frozen",
        "model.drop_path=0.0",
        "validation=null",
        "execution.cpus=0.5",
    )
    losses = {}
    with tempfile.TemporaryDirectory() as folder:
        for workers, name in ((1, "one worker, two micro-batches"), (2, "two workers")):
            out = Path(folder) / str(workers)
            flawforge.train(
                "train-tinytown-detector", out, data=given.data, overrides=changes, workers=workers
            )
            losses[name] = losses_of(out)
    one, two = losses.values()
    apart = np.abs(one - two)
    table = Table("steps", "mean loss", "largest difference", "mean difference")
    for first in range(0, given.steps, max(1, given.steps // 4)):
        part = slice(first, first + max(1, given.steps // 4))
        table.add_row(
            f"{first + 1:,} to {min(part.stop, given.steps):,}",
            f"{one[part].mean():.4f}",
            f"{apart[part].max():.1e}",
            f"{apart[part].mean():.1e}",
        )
    Console(width=120).print(table)
    draw(losses, given.curves, across="step", thickest=6)


if __name__ == "__main__":
    main()
