"""Merging complete outputs into a new one: their shards, byte for byte, under new numbers."""

from __future__ import annotations

import hashlib
import re
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from actors.errors import OutputError
from factory.maintain.leave_out import leave_out
from factory.output.census import strays_of, take_census
from factory.output.identity import PATH as IDENTITY
from factory.output.identity import Identity, claim, read_identity
from factory.output.lock import Lock
from factory.output.manifest import Progress, done_shards
from factory.output.plan import PATH as PLAN
from factory.output.plan import Plan, read_plan, shard_name, write_plan
from factory.output.provenance import Part, is_import, merged_identity, parts_of
from factory.output.rebuild import write_documents
from factory.output.reference import Reference
from factory.output.shards.records import FileRecord, Sidecar, index_path, read_sidecar, tar_path
from factory.output.shards.writer import commit_shard
from factory.store.fence import LOCK
from factory.store.remote import read_ahead
from factory.store.storage import Storage

MOST_NAMED = 5
"""Duplicate keys that an error names."""

_SHARDS_AT_ONCE = 4
_PASSES = 2
"""The second finds what a run that had lost the lock changed after its shard was copied."""

_OTHER_THAN_NAME = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(frozen=True)
class Input:
    """An output to be merged.

    Attributes:
        storage: where it lies.
        plan: of it.
        parts: what made its shards; several where it is merged itself.
        sidecars: of all its shards.
    """

    storage: Storage
    plan: Plan
    parts: tuple[Part, ...]
    sidecars: dict[int, Sidecar]


@dataclass(frozen=True)
class Job:
    """A shard to be copied.

    Attributes:
        source: the input that has it.
        old: its sidecar in that input.
        part: place in the list of all parts.
        left_out: keys that it has and must lose.
    """

    source: Input
    old: Sidecar
    part: int
    left_out: frozenset[str]

    def items(self) -> list[Reference]:
        """What the plan has of it, without what is left out."""
        planned = self.source.plan.shard(self.old.shard)
        return [item for item in planned if item.key not in self.left_out]


@dataclass(frozen=True)
class Merged:
    """What a merge did.

    Attributes:
        total: counts of the new output.
        copied, rewritten: shards taken byte for byte, and shards that lost duplicates.
        left_out: items left out, planned before and no more; not those that stay in the shard where they were tried
            last.
    """

    total: Progress
    copied: int
    rewritten: int
    left_out: int


def merge(out: str, urls: Sequence[str], *, first_wins: bool = False, name: str = "") -> Merged:
    """Make a new output from the shards of others. The same call resumes a merge that was stopped.

    Every sample keeps the JSON that it had, with the digest of the recipe that made it; every shard's sidecar too. The
    new identity lists the parts with recipe and identity, so that `verify`, `inspect` and `replay` know them.

    Args:
        out: a new or empty folder, at any fsspec URL.
        urls: of complete outputs, at least two; merged ones are taken apart into their parts.
        first_wins: of items with one key, keep the first, and rewrite the shards of the others without them. Otherwise
            such keys are an error.
        name: of the new data set; the last part of `out` where empty.

    Raises:
        OutputError: an input is not complete, damaged, of another version of the layout, or named twice; keys are
            duplicated; or `out` holds something else.
    """
    inputs = [_input(Storage(url)) for url in urls]
    places = [one.storage.url for one in inputs]
    if len(set(places)) < 2 or len(set(places)) < len(places):
        raise OutputError(f"merge takes at least two outputs, each once; given were {', '.join(places)}")
    jobs = _deal(inputs, first_wins=first_wins)
    target = Storage(out)
    if not jobs:
        raise OutputError("nothing is left to merge")
    shards = Counter(job.part for job in jobs)
    parts = [
        replace(part, shards=shards[place])
        for place, part in enumerate(part for one in inputs for part in one.parts)
        if shards[place]
    ]
    identity = merged_identity(name or _name(target), parts)
    skipped: Counter[str] = Counter()
    for one in inputs:
        skipped.update(one.plan.skipped)
    if not target.exists(IDENTITY) and not target.empty(besides=(PLAN, LOCK)):
        raise OutputError(f"{target.url} holds files already; merge into a new or empty folder")
    with Lock(target) as lock:
        target = lock.storage
        plan_sha256 = _begin(target, jobs, skipped, identity)
        plan = read_plan(target)
        for _ in range(_PASSES):
            todo = sorted(set(range(len(jobs))) - take_census(target, plan).keys())
            for _ in read_ahead(
                lambda number: _copy(jobs[number], target, number, plan_sha256), todo, _SHARDS_AT_ONCE
            ):
                lock.check()
        if missing := sorted(set(range(len(jobs))) - take_census(target, plan).keys()):
            raise OutputError(
                f"{target.url}: shard {shard_name(missing[0])} is missing, or is not as it was copied ({len(missing)} "
                "such shards): another program changes this folder; stop it, then run the same command again"
            )
        if strays := strays_of(target, plan):
            raise OutputError(f"{target.url}: {', '.join(strays[:5])} belong to no shard; move them away")
        total = write_documents(target)
    retried = sum(one.plan.retried for one in inputs)
    left_out = sum(len(job.left_out) for job in jobs) + _dropped_whole(inputs, jobs) - retried
    rewritten = sum(bool(job.left_out) for job in jobs)
    return Merged(total, len(jobs) - rewritten, rewritten, left_out)


def _begin(target: Storage, jobs: Sequence[Job], skipped: Mapping[str, int], identity: Identity) -> str:
    """Write plan and identity, or check those that exist; return the plan's sha256."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, PLAN)
        sha256 = write_plan((job.items() for job in jobs), skipped, path)
        if not target.exists(IDENTITY):
            target.settle(PLAN, path)
            claim(target, identity, sha256)
            return sha256
        existing, its_plan = read_identity(target)
        if (existing.digest, its_plan) != (identity.digest, sha256):
            raise OutputError(f"{target.url} holds another data set; merge into a new or empty folder")
        return sha256


def _input(storage: Storage) -> Input:
    plan = read_plan(storage)
    parts = parts_of(storage, plan)
    if any(is_import(part.identity) for part in parts):
        raise OutputError(
            f"{storage.url} was made by flawforge import or predict, and merge takes outputs of flawforge build; a "
            "training takes several data sets side by side"
        )
    published, sidecars = done_shards(storage), take_census(storage, plan)
    missing = [number for number in range(plan.shards) if number not in published]
    if missing:
        done = plan.shards - len(missing)
        raise OutputError(
            f"{storage.url} is not complete: {done} of {plan.shards} shards; finish its build first"
        )
    for number in range(plan.shards):
        if number not in sidecars:
            read_sidecar(storage, number)  # if it is damaged, its own error is more precise
            raise OutputError(
                f"{storage.url}: shard {shard_name(number)} is of another recipe or plan, or its tar or index is not "
                "the one that its sidecar names; run flawforge verify on it, and build it again"
            )
    return Input(storage, plan, parts, sidecars)


def _deal(inputs: Sequence[Input], *, first_wins: bool) -> list[Job]:
    """The shards of the new output in order. One of which nothing would be left is not taken.

    The keys of all inputs are in memory, and nothing else of their items.
    """
    seen: dict[str, str] = {}
    twice: list[str] = []
    jobs: list[Job] = []
    before = count = 0
    for one in inputs:
        owners = [before + place for place, part in enumerate(one.parts) for _ in range(part.shards)]
        before += len(one.parts)
        last = _tried_last(one.plan)
        for number in range(one.plan.shards):
            planned = one.plan.shard(number)
            # A reject that was tried again counts where it was tried last.
            items = [item for item in planned if last.get(item.key, number) == number]
            left_out = {item.key for item in items if item.key in seen}
            twice += [
                f"{item.key} ({seen[item.key]} and {one.storage.url})"
                for item in items
                if item.key in left_out and len(twice) < MOST_NAMED
            ]
            seen.update((item.key, one.storage.url) for item in items if item.key not in left_out)
            count += len(left_out)
            if len(left_out) < len(items):
                superseded = {item.key for item in planned} - {item.key for item in items}
                jobs.append(Job(one, one.sidecars[number], owners[number], frozenset(left_out | superseded)))
    if twice and not first_wins:
        raise OutputError(
            f"{count:,} keys are duplicated: {', '.join(twice[:MOST_NAMED])}"
            + (", ..." if count > MOST_NAMED else "")
            + "; nothing was written. --duplicates first keeps the first of each"
        )
    return jobs


def _tried_last(plan: Plan) -> dict[str, int]:
    """The last shard of every item that was tried again, by key."""
    return {
        key: shard
        for version in plan.versions
        if version.retries
        for shards, keys in plan.keys(version)
        for shard, key in zip(shards, keys, strict=True)
    }


def _dropped_whole(inputs: Sequence[Input], jobs: Sequence[Job]) -> int:
    """Items of the shards that were not taken at all."""
    planned = sum(sidecar.planned for one in inputs for sidecar in one.sidecars.values())
    return planned - sum(job.old.planned for job in jobs)


def _copy(job: Job, target: Storage, number: int, plan_sha256: str) -> None:
    """Publishes one shard, its sidecar last."""
    source, sidecar = job.source.storage, job.old
    index = _read(source, index_path(sidecar.shard), sidecar.index)
    tar = _read(source, tar_path(sidecar.shard), sidecar.tar) if sidecar.tar else None
    if job.left_out:
        tar, index, sidecar = leave_out(tar, index, sidecar, job.left_out)
    sidecar = sidecar.model_copy(update={"shard": number, "plan_sha256": plan_sha256})
    commit_shard(target, sidecar, tar, index)


def _read(source: Storage, path: str, recorded: FileRecord) -> bytes:
    data = source.read(path)
    if hashlib.sha256(data).hexdigest() != recorded.sha256:
        raise OutputError(
            f"{source.url}: {path} is damaged: its sha256 is not that of the sidecar; run flawforge verify on it"
        )
    return data


def _name(target: Storage) -> str:
    return _OTHER_THAN_NAME.sub("-", target.url.rpartition("/")[2])[:80] or "merged"
