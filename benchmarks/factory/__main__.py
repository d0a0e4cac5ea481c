"""Figures of the factory itself, with models that do nothing.

python -m benchmarks.factory samples    CPU, memory and stored bytes of 1,000, 10,000 and 100,000 samples
python -m benchmarks.factory plan       a plan of 10 million items, and a resume over it
python -m benchmarks.factory scale      1, 2, 4 and 8 simulated nodes; pools of uneven speed
python -m benchmarks.factory            all of them
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from benchmarks.factory import plans, samples, scale_out
from benchmarks.factory.usage import adopt_orphans


def main(given: Sequence[str]) -> None:
    match given:
        case ["drive", source, out, ledger]:
            samples.drive(source, out, ledger)
        case ["draw", items, out]:
            plans.draw(int(items), out)
        case ["resume", out, report]:
            plans.resume(out, report)
        case ["drive-scale", address, out, workers, per_shard, select]:
            scale_out.drive(address, out, int(workers), int(per_shard), float(select))
        case _:
            measure(given)


def measure(given: Sequence[str]) -> None:
    """Measures the requested figures. It starts the cases above as programs."""
    parser = argparse.ArgumentParser(prog="benchmarks.factory", description=__doc__)
    parser.add_argument("what", nargs="*", help="samples, plan, scale; default: all")
    parser.add_argument("--sizes", default="1000,10000,100000", help="of the samples, multiples of 1,000")
    parser.add_argument("--items", type=int, default=10_000_000, help="of the plan")
    parser.add_argument("--nodes", default="1,2,4,8")
    parser.add_argument("--per-shard", type=int, default=128, help="samples in a shard of the scale-out")
    parser.add_argument("--work", type=Path, default=None, help="where files go; default: a temporary folder")
    arguments = parser.parse_args(given)
    console, wanted = Console(width=120), arguments.what or ["samples", "plan", "scale"]
    adopt_orphans()
    with tempfile.TemporaryDirectory(dir=arguments.work) as folder:
        work = Path(folder)
        if "samples" in wanted:
            runs = [samples.through_the_factory(int(size), work) for size in arguments.sizes.split(",")]
            middle = runs[len(runs) // 2].samples
            samples.report(runs, samples.in_a_loop(middle, work), console)
        if "plan" in wanted:
            plans.measure(arguments.items, work, console)
        if "scale" in wanted:
            nodes = [int(count) for count in arguments.nodes.split(",")]
            scale_out.measure(nodes, arguments.per_shard, work, console)


if __name__ == "__main__":
    main(sys.argv[1:])
