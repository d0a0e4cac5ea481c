"""Trying rejected items again, by the recipe that rejected them with some rule relaxed: a new version of the plan."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

from actors.errors import OutputError
from factory.build import make
from factory.maintain.verify_index import read_index
from factory.output.census import take_census
from factory.output.identity import Identity
from factory.output.lock import Lock
from factory.output.manifest import Progress
from factory.output.plan import NoItemsError, Plan, Version, read_plan
from factory.output.provenance import Part, digests_by_shard, parts_of
from factory.output.reference import Reference
from factory.output.shards.records import read_sidecar
from factory.output.versions import append, versions_of
from factory.recipe.recipe import Recipe, parse_recipe
from factory.run.signals import heeded
from factory.run.tally import Tally
from factory.store.storage import Storage

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Retried:
    """What trying again did.

    Attributes:
        items: rejected items that were tried again.
        accepted: how many of them are samples now.
        reasons: of the others, by reason.
        total: counts of the whole output.
    """

    items: int
    accepted: int
    reasons: dict[str, int]
    total: Progress


def retry_rejects(
    url: str,
    *,
    reasons: Collection[str] = (),
    overrides: Sequence[str] = (),
    take_over: bool = False,
    address: str = "local",
    show: Callable[[Tally], None] = lambda tally: None,
    tell: Callable[[str], None] = log.warning,
) -> Retried:
    """Retry rejected items, and add those that are accepted now.

    They keep their keys, and so their seeds: the result is the same as if the recipe had been the relaxed one from the
    start. The index keeps the first reject. A run that was stopped is resumed by the same call.

    Args:
        url: the output.
        reasons: only rejects with one of these reasons; all where empty.
        overrides: `a.b=c`, changes to the recipe that made them. Without a change only rejects of named reasons are
            retried: those whose cause may be gone, such as `missing`.
        take_over, address, show, tell: see `factory.build.build`.

    Raises:
        OutputError: there is nothing to try again.
        RecipeError: the changed recipe is wrong.
        BuildError: the run stopped; see `factory.build.build`.
    """
    storage = Storage(url)
    plan = read_plan(storage)
    todo = _recipes(storage, plan, overrides)
    with heeded(), Lock(storage, take_over=take_over, tell=tell) as lock:
        storage = lock.storage
        made: list[Version] = []
        for recipe, identity, old in todo:
            versions = _unfinished(storage, identity) or _planned(storage, recipe, identity, old, reasons)
            if versions:
                made += versions
                total = make(recipe, storage, identity, versions, lock, address, show=show, tell=tell)
    if not made:
        which = f" for {', '.join(sorted(reasons))}" if reasons else ""
        raise OutputError(
            f"{url}: no item that was rejected{which} would be treated otherwise now; change the rule that rejected it "
            "(--set verify.least_inside=0.1), or name the reason of what may have been mended (--reason missing)"
        )
    return _outcome(storage, made, total)


def _recipes(
    storage: Storage, plan: Plan, overrides: Sequence[str]
) -> list[tuple[Recipe, Identity, list[Part]]]:
    """The changed recipes, each with its identity and the parts of the output that it is the change of."""
    found: dict[str, tuple[Recipe, Identity, list[Part]]] = {}
    for part in parts_of(storage, plan):
        recipe = parse_recipe(part.recipe, f"{part.url}/recipe.yaml", overrides)
        identity = Identity.of(recipe)
        found.setdefault(identity.digest, (recipe, identity, []))[2].append(part)
    return list(found.values())


def _unfinished(storage: Storage, identity: Identity) -> list[Version]:
    """Versions that an earlier run of the same request planned and did not finish."""
    plan = read_plan(storage)
    done = take_census(storage, plan).keys()
    return [
        version
        for version in versions_of(storage, plan, identity)
        if version.retries and not done >= set(version.shards)
    ]


def _planned(
    storage: Storage, recipe: Recipe, identity: Identity, old: Sequence[Part], reasons: Collection[str]
) -> list[Version]:
    """A new version with the rejects of these parts; empty if they have none."""
    plan = read_plan(storage)
    digests = {part.identity.digest for part in old}
    if not reasons:
        digests.discard(identity.digest)
    items = _rejects(storage, plan, digests, reasons)
    try:
        return [append(storage, recipe, identity, items, Counter(), retries=True)]
    except NoItemsError:
        return []


def _rejects(
    storage: Storage, plan: Plan, digests: Collection[str], reasons: Collection[str]
) -> Iterator[Reference]:
    """Items whose last try, by one of some recipes, was rejected; in the plan's order."""
    tried_later: set[str] = set()
    chosen: list[list[tuple[int, set[str]]]] = []
    done = take_census(storage, plan)
    owners = digests_by_shard(parts_of(storage, plan))
    for version in reversed(plan.versions):
        here: list[tuple[int, set[str]]] = []
        for number in version.shards:
            if number in done and owners[number] in digests:
                rejected = {
                    str(row["key"])
                    for row in read_index(storage, number)
                    if row["status"] == "rejected" and (not reasons or row["reason"] in reasons)
                }
                here.append((number, rejected - tried_later))
        chosen.append(here)
        if version.retries:
            tried_later.update(key for _, keys in plan.keys(version) for key in keys)
    for number, keys in chain.from_iterable(reversed(chosen)):
        if keys:
            yield from (item for item in plan.shard(number) if item.key in keys)


def _outcome(storage: Storage, versions: Sequence[Version], total: Progress) -> Retried:
    mine = [read_sidecar(storage, number) for version in versions for number in version.shards]
    reasons: Counter[str] = Counter()
    for sidecar in mine:
        reasons.update(sidecar.reasons)
    return Retried(
        sum(sidecar.planned for sidecar in mine),
        sum(sidecar.accepted for sidecar in mine),
        dict(reasons.most_common()),
        total,
    )
