"""The main job: plan once, make what is missing, account for everything."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

from actors.errors import BuildError, FlawforgeError, OutputError
from factory.card import write_card
from factory.identity import PATH as IDENTITY
from factory.identity import Identity, claim
from factory.manifest import PATH as MANIFEST
from factory.manifest import Progress, done_shards, read_stats, write_manifest
from factory.monitor import Tally
from factory.plan import PATH as PLAN
from factory.plan import Plan, read_plan, write_plan
from factory.recipe import Recipe, dump
from factory.sources import open_source
from factory.storage import Storage

log = logging.getLogger(__name__)

RECIPE = "recipe.yaml"
OURS = ("shards", "index", "stats", IDENTITY, PLAN, MANIFEST, RECIPE, "README.md", "gallery.html")
"""Everything that a build puts into an output; overwriting removes these and nothing else."""


def build(
    recipe: Recipe,
    url: str,
    *,
    overwrite: bool = False,
    address: str = "local",
    order: Callable[[list[int]], list[int]] = sorted,
    show: Callable[[Tally], None] = lambda tally: None,
) -> Progress:
    """Makes a data set, or finishes one that was begun.

    Args:
        recipe: what to make.
        url: the output, a folder at any fsspec URL.
        overwrite: delete an output of ours that is there, whatever its recipe.
        address: a Ray cluster, or `local` for one of our own on this machine.
        order: in which the missing shards are begun; results do not depend on it.
        show: called with the tally at the start and after every shard.

    Raises:
        OutputError: the output belongs to another recipe, or cannot be written.
        BuildError: the run stopped before the plan was done; running it again goes on from there.
    """
    storage = Storage(url)
    identity = Identity.of(recipe)
    if overwrite:
        clear(storage)
    claim(storage, identity)
    storage.replace(RECIPE, dump(recipe).encode())
    plan = existing_plan(storage) or make_plan(recipe, storage)
    tally = _tally(storage, plan)
    show(tally)
    for number in _missing(recipe, storage, plan, identity, address, order):
        stats = read_stats(storage, number)
        tally.accepted += stats["accepted"]
        tally.rejected += stats["rejected"]
        tally.reasons.update(stats["reasons"])
        show(tally)
    total = write_manifest(storage, plan, identity, recipe.name)
    write_card(storage, recipe, identity, total)
    return total


def make_plan(recipe: Recipe, storage: Storage) -> Plan:
    """Lists the source and writes the plan."""
    source = open_source(recipe.source, recipe.seed)
    return write_plan(storage, source.list(), recipe.output.samples_per_shard, source.skipped)


def existing_plan(storage: Storage) -> Plan | None:
    return read_plan(storage) if storage.exists(PLAN) else None


def clear(storage: Storage) -> None:
    """Deletes what a build wrote.

    Raises:
        OutputError: the folder holds files but no output of ours.
    """
    names = storage.names("")
    if names and IDENTITY not in names:
        raise OutputError(
            f"{storage.url} holds files ({', '.join(names[:3])}, ...) but no data set of ours; nothing was deleted"
        )
    for path in OURS:
        storage.remove(path)


def _missing(
    recipe: Recipe,
    storage: Storage,
    plan: Plan,
    identity: Identity,
    address: str,
    order: Callable[[list[int]], list[int]],
) -> Iterator[int]:
    """Runs the pipeline over the shards without a sidecar, again while that helps; yields published shards."""
    for run in range(recipe.execution.passes):
        todo = order(sorted(set(range(len(plan.sizes))) - done_shards(storage)))
        if not todo:
            return
        # Ray and torch are imported only when there is work to do.
        from factory.pipeline import check_resources, connect, run_shards

        connect(address)
        check_resources(recipe)
        try:
            for shard in run_shards(recipe, storage.url, identity.digest, todo):
                yield shard.number
        except FlawforgeError:
            if run + 1 == recipe.execution.passes or not _went_on(storage, todo):
                raise
            log.warning("pass %d stopped early; going on with what is missing", run + 1, exc_info=True)
    left = set(range(len(plan.sizes))) - done_shards(storage)
    if left:
        raise BuildError(
            f"{len(left)} of {len(plan.sizes)} shards are missing after {recipe.execution.passes} passes: "
            f"{sorted(left)[:8]}; run the same command again to go on"
        )


def _went_on(storage: Storage, todo: list[int]) -> bool:
    return bool(done_shards(storage) & set(todo))


def _tally(storage: Storage, plan: Plan) -> Tally:
    tally = Tally(planned=plan.items)
    for number in done_shards(storage):
        stats: dict[str, Any] = read_stats(storage, number)
        tally.accepted += stats["accepted"]
        tally.rejected += stats["rejected"]
        tally.reasons.update(stats["reasons"])
    tally.before = tally.done
    return tally
