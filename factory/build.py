"""The main job: plan once, make what is missing, account for everything."""

from __future__ import annotations

import contextlib
import logging
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from actors.errors import BuildError, OutputError
from factory.attempts import FOLDER as ATTEMPTS
from factory.card import write_card
from factory.identity import PATH as IDENTITY
from factory.identity import Identity, check_same, claim, read_identity
from factory.interruption import heeded
from factory.lock import PATH as LOCK
from factory.lock import Lock
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
OURS = (
    ATTEMPTS,
    "stats",
    MANIFEST,
    "README.md",
    "gallery.html",
    "splits",
    RECIPE,
    "index",
    "shards",
    PLAN,
    IDENTITY,
)
"""Everything that a build puts into an output; overwriting removes these and nothing else.

In this order, so that a kill in the middle leaves an output that is still ours, and no shard that seems done.
"""


def build(
    recipe: Recipe,
    url: str,
    *,
    overwrite: bool = False,
    take_over: bool = False,
    address: str = "local",
    order: Callable[[list[int]], list[int]] = sorted,
    show: Callable[[Tally], None] = lambda tally: None,
    tell: Callable[[str], None] = log.warning,
) -> Progress:
    """Makes a data set, or finishes one that was begun.

    Args:
        recipe: what to make.
        url: the output, a folder at any fsspec URL.
        overwrite: delete an output of ours that is there, whatever its recipe.
        take_over: also where another run seems to be at work there, see `factory.lock`.
        address: a Ray cluster, or `local` for one of our own on this machine.
        order: in which the missing shards are begun; results do not depend on it.
        show: called with the tally at the start and after every shard.
        tell: called with a sentence for the user where there is something to wait for or to know.

    Raises:
        OutputError: the output belongs to another recipe, or cannot be written.
        BuildError: the run stopped before the plan was done; running it again goes on from there.
        Terminated: SIGTERM came; as above.
    """
    storage = Storage(url)
    identity = Identity.of(recipe)
    _check(storage, identity, overwrite=overwrite)
    with heeded(), Lock(storage, take_over=take_over, tell=tell) as lock:
        storage.tidy()
        plan = _begin(recipe, storage, identity, overwrite=overwrite)
        storage.replace(RECIPE, dump(recipe).encode())
        tally = Tally(progress(plan, read_sidecars(storage)))
        show(tally)
        try:
            for number in _missing(recipe, storage, plan, identity, address, order):
                lock.check()
                tally.add(read_sidecar(storage, number))
                show(tally)
        except KeyboardInterrupt:
            # The workers end with us: that is no fault of what they work on. One may yet put a mark in the way.
            with contextlib.suppress(OutputError):
                storage.remove(ATTEMPTS)
            raise
        storage.remove(ATTEMPTS)
        total = write_manifest(storage, plan, identity, recipe.name)
        write_card(storage, recipe, identity, total)
    return total


def _check(storage: Storage, identity: Identity, *, overwrite: bool) -> bool:
    """Whether the output is begun already. Nothing is changed.

    Raises:
        OutputError: it is somebody else's, or of another recipe and not to be overwritten.
    """
    begun = storage.exists(IDENTITY)
    if begun and not overwrite:
        check_same(storage, read_identity(storage)[0], identity)
    if not begun and not storage.empty(besides=(PLAN, LOCK)):
        raise OutputError(
            f"{storage.url} holds files that are no data set of ours; nothing was changed: choose a new or empty folder"
        )
    return begun


def _begin(recipe: Recipe, storage: Storage, identity: Identity, *, overwrite: bool) -> Plan:
    """The plan of an output that is begun already, or a new one.

    The source is listed before anything is touched, and the identity is written last, so that a mistyped source
    neither destroys a data set nor ties the folder to the mistake.
    """
    if _check(storage, identity, overwrite=overwrite) and not overwrite:
        return read_plan(storage)
    source = open_source(recipe.source, recipe.seed)
    with tempfile.TemporaryDirectory() as folder:
        drawn = Path(folder, PLAN)
        sha256 = draw_plan(source.list(), recipe.output.samples_per_shard, source.skipped, drawn)
        for path in OURS:
            storage.remove(path)
        storage.upload(PLAN, drawn)
    claim(storage, identity, sha256)
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
    while missing := sorted(set(range(plan.shards)) - done_shards(storage)):
        # Ray and torch are imported only when there is work to do.
        from factory.pipeline import check_resources, connect, run_shards

        connect(address)
        # A Ray of our own on this machine does not grow.
        check_resources(recipe, patience=0 if address == "local" else recipe.execution.patience)
        trouble = BuildError(
            f"Ray ended a pass over {len(missing)} shards without an error and without all of them"
        )
        try:
            with heeded():
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
