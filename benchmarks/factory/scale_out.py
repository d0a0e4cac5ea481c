"""Scale-out: a stage that sleeps, on 1, 2, 4 and 8 simulated nodes; and two pools of uneven speed."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.factory.plans import references

IMAGE = 100_000
"""Bytes of a sample."""

SLEEP = 0.05
"""Seconds that the working stage sleeps for a sample."""

PER_WORKER = 24
"""Shards for every worker."""

OBJECT_STORE = 1_000_000_000
"""Bytes for every node; see docs/clusters.md for what a smaller one does."""

RECIPE = """
name: scale
source: {kind: images, urls: [/nowhere], size: 64, fields: {mask: mask.png}}
regions: {kind: source}
corruption: {method: blur, target: image}
output: {samples_per_shard: PER_SHARD, original: false}
execution:
  load: {cpus: 0.125, smallest: POOLS, largest: POOLS}
  select: {cpus: 0.125, smallest: POOLS, largest: POOLS}
  corrupt: {cpus: 1, smallest: WORKERS, largest: WORKERS}
  write: {cpus: 0.125, smallest: POOLS, largest: POOLS}
"""


@dataclass(frozen=True)
class Run:
    """A build on `nodes` nodes.

    Attributes:
        nodes: one worker of the sleeping stage on each.
        shards: of the build.
        speed: shards per second, from the time when every worker had published one to the last one.
        busy: share of the time between the first publish and the last for which a worker of each stage was at work.
    """

    nodes: int
    shards: int
    speed: float
    busy: dict[str, float]


def drive(address: str, out: str, workers: int, per_shard: int, select: float) -> None:
    """A program of its own: builds on an existing cluster."""
    from benchmarks.factory.pretence import connect, images_of, sleeping
    from factory.build import build
    from factory.output.identity import Identity
    from factory.output.versions import begin
    from factory.recipe.recipe import parse_recipe
    from factory.store.storage import Storage

    text = RECIPE.replace("WORKERS", str(workers)).replace("POOLS", str(1 + workers // 4))
    recipe = parse_recipe(text.replace("PER_SHARD", str(per_shard)), "scale.yaml")
    items = islice(references(10**6), PER_WORKER * workers * per_shard)
    begin(Storage(out), recipe, Identity.of(recipe), items, {})
    connect(address, images_of(IMAGE), sleeping("SelectRegions", select), sleeping("Corrupt", SLEEP))
    build(recipe, out, address=address)


def run(nodes: int, per_shard: int, work: Path, select: float = 0.0) -> Run:
    from ray.cluster_utils import Cluster

    out = work / f"out-{nodes}-{select:g}"
    store = {"object_store_memory": OBJECT_STORE}
    cluster = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, **store}
    )
    try:
        for _ in range(nodes):
            cluster.add_node(num_cpus=2, **store)
        arguments = [cluster.address, str(out), str(nodes), str(per_shard), str(select)]
        subprocess.run([sys.executable, "-m", "benchmarks.factory", "drive-scale", *arguments], check=True)
    finally:
        cluster.shutdown()
    sidecars = sorted(out.glob("stats/*.json"), key=lambda path: path.stat().st_mtime_ns)
    times = [path.stat().st_mtime_ns / 1e9 for path in sidecars]
    seconds = [json.loads(path.read_text())["seconds"] for path in sidecars]
    span = times[-1] - times[nodes - 1]
    rest = seconds[nodes:]
    busy = {stage: sum(one[stage] for one in rest) / (span * nodes) for stage in ("select", "corrupt")}
    return Run(nodes, len(times), len(rest) / span, busy)


def measure(nodes: Sequence[int], per_shard: int, work: Path, console: Console) -> None:
    runs = [run(count, per_shard, work) for count in nodes]
    table = Table("nodes", "shards", "shards per second", "efficiency", "workers busy")
    for one in runs:
        efficiency = one.speed / (one.nodes / runs[0].nodes * runs[0].speed)
        table.add_row(
            str(one.nodes),
            str(one.shards),
            f"{one.speed:.2f}",
            f"{efficiency:.3f}",
            f"{one.busy['corrupt']:.1%}",
        )
    console.print(table)
    uneven = run(1, per_shard, work, select=0.4 * SLEEP)
    console.print(
        f"pools of uneven speed ({0.4 * SLEEP:g} and {SLEEP:g} s per sample): the slower one was busy for "
        f"{uneven.busy['corrupt']:.1%} of the time, the other for {uneven.busy['select']:.1%}"
    )
