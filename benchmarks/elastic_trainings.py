"""Adds a node to the cluster of an elastic training, or kills one: `benchmarks.faults --only training`.

Nodes of one CPU on this machine, and a training of one or two workers with a CPU each. Ray Train resizes it: from one
to two workers after a node has joined, and from two to one after a node was lost. Its losses are compared with those of
a training of one worker that was left alone.
"""

from __future__ import annotations

import random
import time
from pathlib import Path

from benchmarks.nodes import Nodes, cluster
from benchmarks.training_faults import BATCH, RECIPE, SIZES, STEPS, Result, compared, finish, start, wait_for
from factory.store.storage import Storage
from train import checkpoint
from train.progress import Progress

ELASTIC = ("--set", "execution.cpus=1", "--set", "execution.resize_every=5")


def elastic_trainings(folder: Path, alone: Path, *, seed: int) -> list[Result]:
    """Run a training that a node joins, and one that loses a node.

    Ray looks at the nodes of a cluster every 20 seconds, so the node joins early: the training must not end before.

    Args:
        folder: for the recipe and the outputs.
        alone: output of the training that was left alone.
        seed: of the moments, and of which node is lost.
    """
    chance = random.Random(seed)
    file, results = folder / "recipe.yaml", []
    file.write_text(RECIPE)
    for name, nodes, moment in (
        ("node joins", 1, chance.randrange(STEPS // 40, STEPS // 10)),
        ("node lost", 2, chance.randrange(STEPS // 10, STEPS // 2)),
    ):
        out = folder / name.replace(" ", "-")
        with cluster(nodes, cpus=1) as machines:
            kill, seconds = resized(file, out, machines, moment, chance)
        results.append(compared(name, out, alone, (kill,), SIZES, BATCH, seconds))
    return results


def resized(
    file: Path, out: Path, nodes: Nodes, moment: int, chance: random.Random
) -> tuple[tuple[int, int], float]:
    """Run an elastic training to its end; one node becomes two, or two become one.

    Args:
        file: its recipe.
        out: its output.
        nodes: of the cluster, with a CPU each.
        moment: steps before that.
        chance: of the node that is lost.

    Returns:
        Steps that were done when the workers were stopped, as far as the progress showed, and the checkpoint then; and
        seconds from the change of the cluster to a step of the other number of workers.
    """
    before = len(nodes.workers)
    process = start(file, out, "1,2", "--address", nodes.address, *ELASTIC)
    wait_for(
        process,
        out,
        f"step {moment} of {before} workers",
        lambda found: found.step >= moment and found.workers == before,
    )
    changed = time.monotonic()
    if before == 1:
        nodes.add()
    else:
        nodes.lose(chance.randrange(before))
    after, latest = len(nodes.workers), (0, 0)

    def other(found: Progress) -> bool:
        nonlocal latest
        if found.workers == before:
            latest = found.step, max(checkpoint.steps_of(Storage(str(out))), default=0)
        return found.workers == after

    wait_for(process, out, f"a step of {after} workers", other)
    seconds = time.monotonic() - changed
    finish(process, out)
    return latest, seconds
