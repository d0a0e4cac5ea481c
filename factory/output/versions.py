"""Versions of a plan: how an existing output is extended.

A version has a plan, a recipe and an identity of its own, in `versions/`, and its shards follow on those before.
No existing file is changed. The identity is written last: until then the version does not exist.
"""

from __future__ import annotations

import contextlib
import logging
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import islice
from pathlib import Path

from actors.errors import OutputError
from factory.output.clearing import OURS, clear
from factory.output.identity import PATH as IDENTITY
from factory.output.identity import Identity, claim, read_identity
from factory.output.layout import SCANS
from factory.output.plan import PATH, Plan, Version, draw_plan, plan_path, read_plan
from factory.output.planned import Planned, State
from factory.output.provenance import RECIPE, recipe_path
from factory.output.reference import Reference
from factory.recipe.recipe import Recipe, dump
from factory.store.fence import LOCK
from factory.store.storage import Storage

log = logging.getLogger(__name__)

CHANGED = "changed_since_planned"

_AT_ONCE = 4096


def is_begun(storage: Storage) -> bool:
    """Whether an output is begun already. Nothing is changed.

    Raises:
        OutputError: it is not a Flawforge output, or its identity is damaged.
    """
    if storage.exists(IDENTITY):
        try:
            read_identity(storage)
        except OutputError as error:
            raise OutputError(
                f"{error}. It is not a Flawforge output, or damaged; nothing was changed: choose a new or empty folder"
            ) from error
        return True
    if not storage.empty(besides=_leftovers(storage)):
        raise OutputError(
            f"{storage.url} holds files that are no data set of ours; nothing was changed: choose a new or empty folder"
        )
    return False


def _leftovers(storage: Storage) -> set[str]:
    """Files that a run may have left that ended before its output was begun: a plan, then a recipe."""
    left = {LOCK}
    if all(OURS[SCANS].fullmatch(name) for name in storage.names(SCANS)):
        left.add(SCANS)
    with contextlib.suppress(OutputError):
        read_plan(storage, versions=1)
        left |= {PATH, RECIPE}
    return left


def begin(
    storage: Storage,
    recipe: Recipe,
    identity: Identity,
    references: Iterable[Reference],
    skipped: Mapping[str, int],
    *,
    overwrite: bool = False,
    tell: Callable[[str], None] = log.warning,
) -> Version:
    """Begin the output of a build; see `begin_output`."""
    return begin_output(
        storage,
        dump(recipe),
        recipe.output.samples_per_shard,
        identity,
        references,
        skipped,
        overwrite=overwrite,
        tell=tell,
    )


def begin_output(
    storage: Storage,
    recipe: str,
    per_shard: int,
    identity: Identity,
    references: Iterable[Reference],
    skipped: Mapping[str, int],
    *,
    overwrite: bool = False,
    tell: Callable[[str], None] = log.warning,
) -> Version:
    """Begin an output: write the first version of its plan.

    Args:
        recipe: the text of `recipe.yaml`, a mapping with a `name`.
        per_shard: items of a shard.
        identity: of what is made.
        references: the items. They are listed to the end before anything is touched, so that a mistyped source neither
            destroys a data set nor ties the folder to the mistake.
        skipped: read after that; see `factory.output.plan.draw_plan`.
        overwrite: delete the existing output.
        tell: called with a message about files that were not deleted.
    """

    def prepare() -> None:
        if overwrite and (left := clear(storage)):
            tell(left)

    return _write_version(
        storage, recipe, per_shard, identity, references, skipped, number=1, first=0, prepare=prepare
    )


def append(
    storage: Storage,
    recipe: Recipe,
    identity: Identity,
    references: Iterable[Reference],
    skipped: Mapping[str, int],
    *,
    retries: bool = False,
) -> Version:
    """Adds a version to the plan of an output.

    Args:
        references: the items, under keys that no version has, or where `retries` is set, rejected ones of earlier
            versions under their old keys.
        skipped: as in `begin`.
        retries: see `factory.output.plan.Version`.

    Raises:
        NoItemsError: there are no items; nothing was changed.
        OutputError: another run has added a version in the meantime.
    """
    plan = read_plan(storage)
    number = len(plan.versions) + 1
    return _write_version(
        storage,
        dump(recipe),
        recipe.output.samples_per_shard,
        identity,
        references,
        skipped,
        number=number,
        first=plan.shards,
        retries=retries,
    )


def versions_of(storage: Storage, plan: Plan, identity: Identity) -> list[Version]:
    """The versions that were made, or are being made, by this very identity."""
    return [
        version
        for version in plan.versions
        if read_identity(storage, version.number)[0].digest == identity.digest
    ]


def unplanned(
    plan: Plan,
    references: Iterable[Reference],
    fields: Mapping[str, object],
    skipped: Counter[str],
    tell: Callable[[str], None],
) -> Iterator[Reference]:
    """Those of the items that no version has; see `factory.output.planned`.

    Args:
        fields: `source.fields` of the recipe that lists the items.
        skipped: counts items that are planned and have changed since, as `changed_since_planned`.
        tell: called with a message about these, at the end.
    """
    contents = {one.number: read_identity(plan.storage, one.number)[0].content for one in plan.versions}
    same = {number: content.get("source", {}).get("fields") == fields for number, content in contents.items()}
    planned, stream, first = Planned(plan, same), iter(references), ""
    while batch := list(islice(stream, _AT_ONCE)):
        for item, state in zip(batch, planned.states(batch), strict=True):
            if state is State.NEW:
                yield item
            elif state is State.CHANGED:
                skipped[CHANGED] += 1
                first = first or item.url
    if first:
        tell(
            f"{skipped[CHANGED]:,} items have changed since they were planned, the first in {first}; they are not "
            "planned again: put the files back as they were, or build a new output from the changed ones"
        )


def renamed(references: Iterable[Reference], version: int) -> Iterator[Reference]:
    """The items under keys of their own: `KEY-v2` in version 2."""
    return (replace(item, key=f"{item.key}-v{version}") for item in references)


def _write_version(
    storage: Storage,
    recipe: str,
    per_shard: int,
    identity: Identity,
    references: Iterable[Reference],
    skipped: Mapping[str, int],
    *,
    number: int,
    first: int,
    retries: bool = False,
    prepare: Callable[[], None] = lambda: None,
) -> Version:
    with tempfile.TemporaryDirectory() as folder:
        plan = Path(folder, PATH)
        sha256 = draw_plan(references, per_shard, skipped, plan, first=first, retries=retries)
        prepare()
        storage.settle(plan_path(number), plan)
        storage.settle(recipe_path(number), recipe.encode())
        claim(storage, identity, sha256, number)
    return read_plan(storage, versions=number).versions[-1]
