"""The main job: plan once, make what is missing, account for everything."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from enum import StrEnum

from actors.errors import BuildError, OutputError
from factory.admission import FOLDER as HARDWARE
from factory.attempts import FOLDER as ATTEMPTS
from factory.card import PATH as CARD
from factory.care.parts import RECIPE, recipe_path
from factory.care.rebuild import rebuild
from factory.identity import PATH as IDENTITY
from factory.identity import Identity, check_same, read_identity
from factory.interruption import heeded
from factory.lock import Lock
from factory.manifest import PATH as MANIFEST
from factory.manifest import Progress, done_shards, progress, read_sidecars
from factory.outlook import check_schedule
from factory.plan import PATH as PLAN
from factory.plan import VERSIONS, NoItemsError, Version, read_plan
from factory.recipe import Recipe, dump
from factory.run_log import FOLDER as RUNS
from factory.run_record import RunRecord
from factory.shards.records import read_sidecar
from factory.sources import open_source
from factory.storage import Storage
from factory.tally import Tally
from factory.versions import CHANGED, SCANS, append, begin, is_begun, renamed, unplanned, versions_of

log = logging.getLogger(__name__)

OURS = (
    ATTEMPTS,
    RUNS,
    HARDWARE,
    "stats",
    MANIFEST,
    CARD,
    "gallery.html",
    "splits",
    RECIPE,
    "index",
    "shards",
    PLAN,
    VERSIONS,
    SCANS,
    IDENTITY,
)
"""Everything that a build puts into an output; overwriting removes these and nothing else.

In this order, so that a kill in the middle leaves an output that is still ours, and no shard that seems done.
"""


FIRST_PAUSE = 2.0
"""Seconds between a pass without a new shard and the next; four times as long after the next such pass, and so on."""


class Mode(StrEnum):
    """What a build does with an output that is there.

    Attributes:
        RESUME: goes on with what is missing of this very recipe.
        OVERWRITE: deletes it and begins anew.
        EXTEND: adds those items of the source that no version of the plan has.
        AGAIN: adds all items of the source once more, under keys of their own: a second method over the same images.
    """

    RESUME = "resume"
    OVERWRITE = "overwrite"
    EXTEND = "extend"
    AGAIN = "again"


def build(
    recipe: Recipe,
    url: str,
    *,
    mode: Mode = Mode.RESUME,
    take_over: bool = False,
    address: str = "local",
    order: Callable[[list[int]], list[int]] = sorted,
    show: Callable[[Tally], None] = lambda tally: None,
    tell: Callable[[str], None] = log.warning,
) -> Progress:
    """Makes a data set, finishes one that was begun, or extends it.

    Args:
        recipe: what to make.
        url: the output, a folder at any fsspec URL.
        mode: what to do with an output that is there.
        take_over: also where another run seems to be at work there, see `factory.lock`.
        address: a Ray cluster, or `local` for one of our own on this machine.
        order: in which the missing shards are begun; results do not depend on it.
        show: called with the tally at the start and after every shard.
        tell: called with a sentence for the user where there is something to wait for or to know.

    Returns:
        Counts of the whole output, of all versions.

    Raises:
        OutputError: the output belongs to another recipe, or cannot be written.
        BuildError: the run stopped before the plan was done; running it again goes on from there.
        Terminated: SIGTERM came; as above.
    """
    storage = Storage(url)
    identity = Identity.of(recipe)
    check_schedule(recipe)
    _check(storage, identity, mode)
    with heeded(), Lock(storage, take_over=take_over, tell=tell) as lock:
        storage.tidy()
        versions = _versions(recipe, storage, identity, mode, tell)
        return make(recipe, storage, identity, versions, lock, address, order=order, show=show, tell=tell)


def make(
    recipe: Recipe,
    storage: Storage,
    identity: Identity,
    versions: Sequence[Version],
    lock: Lock,
    address: str,
    *,
    order: Callable[[list[int]], list[int]] = sorted,
    show: Callable[[Tally], None] = lambda tally: None,
    tell: Callable[[str], None] = log.warning,
) -> Progress:
    """Makes what is missing of some versions of a plan, all of them of this recipe; see `build`.

    Args:
        identity: of the recipe.
        lock: held.
    """
    for version in versions:
        storage.replace(recipe_path(version.number), dump(recipe).encode())
    plan = read_plan(storage)
    planned = [number for version in versions for number in version.shards]
    sidecars = read_sidecars(storage)
    tally = Tally(progress(plan, sidecars), recipe.execution)
    show(tally)
    missing = len(set(planned) - sidecars.keys())
    with RunRecord(
        storage.url, lock.holder, recipe.name, identity, tally, missing=missing, address=address
    ) as record:
        try:
            for number in _missing(recipe, storage, planned, identity, address, order, record):
                lock.check()
                record.published(read_sidecar(storage, number))
                show(tally)
        except KeyboardInterrupt:
            # The workers end with us: that is no fault of what they work on. One may yet put a mark in the way.
            with contextlib.suppress(OutputError):
                storage.remove(ATTEMPTS)
            raise
        storage.remove(ATTEMPTS)
        total = rebuild(storage)
    if not total.complete:
        tell(
            f"{total.shards - total.done} shards of other versions are not made yet: build with their recipes, too "
            f"(see {storage.url}/{VERSIONS})"
        )
    return total


def _check(storage: Storage, identity: Identity, mode: Mode) -> bool:
    """Whether the output is begun already. Nothing is changed.

    Raises:
        OutputError: it is somebody else's, or of other recipes and not to be overwritten or extended.
    """
    begun = is_begun(storage)
    if begun and mode is Mode.RESUME:
        plan = read_plan(storage)
        if not versions_of(storage, plan, identity):
            check_same(storage, read_identity(storage, len(plan.versions))[0], identity)
    return begun


def _versions(
    recipe: Recipe, storage: Storage, identity: Identity, mode: Mode, tell: Callable[[str], None]
) -> list[Version]:
    """The versions of the plan to work on, drawn where they are not there yet."""
    source = open_source(recipe.source, recipe.seed)
    if not _check(storage, identity, mode) or mode is Mode.OVERWRITE:
        return [begin(storage, recipe, identity, source.list(), source.skipped, clear=OURS)]
    plan = read_plan(storage)
    mine = versions_of(storage, plan, identity)
    if mode is Mode.RESUME or (mode is Mode.AGAIN and mine):
        return mine
    if mode is Mode.AGAIN:
        items = renamed(source.list(), len(plan.versions) + 1)
        return [append(storage, recipe, identity, items, source.skipped)]
    if storage.names(SCANS):
        raise OutputError(
            f"{storage.url} was planned by a scan, whose rejects would come in now: flawforge scan adds new items to it"
        )
    items = unplanned(plan, source.list(), recipe.source.fields.model_dump(), source.skipped, tell)
    try:
        return [*mine, append(storage, recipe, identity, items, source.skipped)]
    except NoItemsError:
        changed = source.skipped[CHANGED]
        nothing = f"the source has no item that {storage.url} does not have already"
        nothing += f" ({changed:,} of them {CHANGED})" if changed else ""
        if not mine:
            raise NoItemsError(nothing) from None
        tell(f"{nothing}; nothing was added to its plan")
        return mine


def _missing(
    recipe: Recipe,
    storage: Storage,
    planned: Sequence[int],
    identity: Identity,
    address: str,
    order: Callable[[list[int]], list[int]],
    record: RunRecord,
) -> Iterator[int]:
    """Runs the pipeline over the planned shards without a sidecar; yields published shards.

    What may have been an accident of the moment (a lost worker, a time-out) is tried again, up to `passes` times
    in a row without a new shard, after longer and longer pauses. What the user has to mend ends the run at once.
    """
    fruitless = 0
    while missing := sorted(set(planned) - done_shards(storage)):
        # Ray and torch are imported only when there is work to do.
        from factory.in_flight import watching
        from factory.pipeline import check_resources, connect, run_shards

        connect(address)
        # A Ray of our own on this machine does not grow.
        resources = check_resources(recipe, patience=0 if address == "local" else recipe.execution.patience)
        record.resources(resources, grows=address != "local")
        trouble = BuildError(
            f"Ray ended a pass over {len(missing)} shards without an error and without all of them"
        )
        try:
            with heeded(), watching(storage.url, record.tally.in_flight) as published:
                for number in run_shards(recipe, storage.url, identity, order(missing)):
                    published(number)
                    yield number
        except BuildError as error:
            trouble = error
        made = done_shards(storage).intersection(missing)
        if len(made) == len(missing):
            return
        fruitless = 0 if made else fruitless + 1
        if fruitless == recipe.execution.passes:
            raise trouble
        record.trouble(trouble)
        log.warning("going on with what is missing after: %s", trouble)
        if fruitless:
            time.sleep(FIRST_PAUSE * 4 ** (fruitless - 1))
