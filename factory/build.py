"""The main job: plan once, make what is missing, account for everything."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

from actors.errors import BuildError, OutputError
from factory.card import write_card
from factory.identity import PATH as IDENTITY
from factory.identity import Identity, check_same, claim, read_identity
from factory.manifest import PATH as MANIFEST
from factory.manifest import Progress, done_shards, progress, read_sidecars, write_manifest
from factory.monitor import Tally
from factory.plan import PATH as PLAN
from factory.plan import Plan, draw_plan, read_plan
from factory.recipe import Recipe, dump
from factory.shards.records import read_sidecar
from factory.sources import open_source
from factory.storage import Storage

log = logging.getLogger(__name__)

RECIPE = "recipe.yaml"
OURS = ("stats", MANIFEST, "README.md", "gallery.html", RECIPE, "index", "shards", PLAN, IDENTITY)
"""Everything that a build puts into an output; overwriting removes these and nothing else.

In this order, so that a kill in the middle leaves an output that is still ours, and no shard that seems done.
"""


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
    plan = _begin(recipe, storage, identity, overwrite=overwrite)
    storage.replace(RECIPE, dump(recipe).encode())
    tally = Tally(progress(plan, read_sidecars(storage)))
    show(tally)
    for number in _missing(recipe, storage, plan, identity, address, order):
        tally.add(read_sidecar(storage, number))
        show(tally)
    total = write_manifest(storage, plan, identity, recipe.name)
    write_card(storage, recipe, identity, total)
    return total


def _begin(recipe: Recipe, storage: Storage, identity: Identity, *, overwrite: bool) -> Plan:
    """The plan of an output that is begun already, or a new one.

    The source is listed before anything is touched, and the identity is written last, so that a mistyped source
    neither destroys a data set nor ties the folder to the mistake.
    """
    begun = storage.exists(IDENTITY)
    if begun and not overwrite:
        check_same(storage, read_identity(storage)[0], identity)
        return read_plan(storage)
    if not begun and not storage.empty(besides=(PLAN,)):
        raise OutputError(
            f"{storage.url} holds files that are no data set of ours; nothing was changed: choose a new or empty folder"
        )
    source = open_source(recipe.source, recipe.seed)
    plan = draw_plan(source.list(), recipe.output.samples_per_shard, source.skipped)
    for path in OURS:
        storage.remove(path)
    storage.replace(PLAN, plan)
    claim(storage, identity, plan)
    return read_plan(storage)


def _missing(
    recipe: Recipe,
    storage: Storage,
    plan: Plan,
    identity: Identity,
    address: str,
    order: Callable[[list[int]], list[int]],
) -> Iterator[int]:
    """Runs the pipeline over the shards without a sidecar; yields published shards.

    What may have been an accident of the moment (a lost worker, a time-out) is tried again, up to `passes` times
    in a row without a new shard. What the user has to mend ends the run at once.
    """
    fruitless = 0
    while missing := sorted(set(range(len(plan.sizes))) - done_shards(storage)):
        # Ray and torch are imported only when there is work to do.
        from factory.pipeline import check_resources, connect, run_shards

        connect(address)
        check_resources(recipe)
        trouble = BuildError(
            f"Ray ended a pass over {len(missing)} shards without an error and without all of them"
        )
        try:
            yield from run_shards(recipe, storage.url, identity.digest, order(missing))
        except BuildError as error:
            trouble = error
        made = done_shards(storage).intersection(missing)
        if len(made) == len(missing):
            return
        fruitless = 0 if made else fruitless + 1
        if fruitless == recipe.execution.passes:
            raise trouble
        log.warning("going on with what is missing after: %s", trouble)
