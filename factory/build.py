"""The main job: plan once, make what is missing, account for everything."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from enum import StrEnum

from actors.errors import OutputError
from factory.output.clearing import check_clearable
from factory.output.identity import Identity, check_same, read_identity
from factory.output.layout import SCANS, VERSIONS
from factory.output.lock import Lock
from factory.output.manifest import Progress
from factory.output.plan import NoItemsError, Version, read_plan
from factory.output.provenance import recipe_path
from factory.output.rebuild import write_documents
from factory.output.versions import CHANGED, append, begin, is_begun, renamed, unplanned, versions_of
from factory.pipeline.outlook import check_schedule
from factory.pipeline.passes import Work, make_shards
from factory.recipe.recipe import Recipe, dump
from factory.run.signals import heeded
from factory.run.tally import Tally
from factory.sources import open_source
from factory.store.storage import Storage

log = logging.getLogger(__name__)


class Mode(StrEnum):
    """What a build does with an existing output.

    Attributes:
        RESUME: makes the missing shards of the same recipe.
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
        mode: what to do with an existing output.
        take_over: even if another run seems to be at work on the output, see `factory.output.lock`.
        address: a Ray cluster, or `local` for one of our own on this machine.
        order: in which the missing shards are begun; results do not depend on it.
        show: called with the tally at the start and after every shard.
        tell: called with messages for the user, such as that the run waits for the lock.

    Returns:
        Counts of the whole output, of all versions.

    Raises:
        OutputError: the output belongs to another recipe, or cannot be written.
        BuildError: the run stopped before the plan was done; the same call resumes it.
        LockLostError: another run took the output over.
        Terminated: SIGTERM came; as above.
    """
    storage = Storage(url)
    identity = Identity.of(recipe)
    check_schedule(recipe)
    _check(storage, identity, mode)
    with heeded(), Lock(storage, take_over=take_over, tell=tell) as lock:
        storage = lock.storage
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
        _note_recipe(storage, recipe, version)

    def run(todo: list[int]) -> Iterator[int]:
        from factory.pipeline.pipeline import run_shards  # imports Ray

        return run_shards(recipe, storage.url, identity, todo, storage.run)

    work = Work(recipe.name, identity, run, recipe.execution.pools, recipe.execution)
    planned = [number for version in versions for number in version.shards]
    total = make_shards(
        work, lock, planned, address, finish=lambda: write_documents(storage), order=order, show=show
    )
    if not total.complete:
        tell(
            f"{total.shards - total.done} shards of other versions are not made yet: build with their recipes, too "
            f"(see {storage.url}/{VERSIONS})"
        )
    return total


def _note_recipe(storage: Storage, recipe: Recipe, version: Version) -> None:
    """Write the recipe of a version, unless it exists. The sections outside the digest may have changed."""
    path, data = recipe_path(version.number), dump(recipe).encode()
    if not storage.exists(path) or storage.read(path) != data:
        storage.settle(path, data)


def _check(storage: Storage, identity: Identity, mode: Mode) -> bool:
    """Whether the output is begun already. Nothing is changed.

    Raises:
        OutputError: it is not a Flawforge output, or it is of other recipes and neither overwritten nor extended.
    """
    begun = is_begun(storage)
    if begun and mode is Mode.OVERWRITE:
        check_clearable(storage)
    if begun and mode is Mode.RESUME:
        plan = read_plan(storage)
        if not versions_of(storage, plan, identity):
            check_same(storage, read_identity(storage, len(plan.versions))[0], identity)
    return begun


def _versions(
    recipe: Recipe, storage: Storage, identity: Identity, mode: Mode, tell: Callable[[str], None]
) -> list[Version]:
    """The versions of the plan to work on; missing ones are planned first."""
    source = open_source(recipe.source, recipe.seed)
    if not _check(storage, identity, mode) or mode is Mode.OVERWRITE:
        return [begin(storage, recipe, identity, source.list(), source.skipped, overwrite=True, tell=tell)]
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
