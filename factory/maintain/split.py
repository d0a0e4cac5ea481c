"""Dealing an output's samples to training and validation, so that no source image is on both sides."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from actors.errors import OutputError
from factory.maintain.verify_index import read_index
from factory.output.lock import Lock
from factory.output.manifest import read_sidecars
from factory.output.plan import Plan, read_plan
from factory.output.reference import Reference, place_in
from factory.output.shards.records import Sidecar, tar_path
from factory.store.storage import Storage

TRAIN, VALIDATION = "splits/train.txt", "splits/val.txt"

_VARIANT = re.compile(r"[-_][^-_]*$")


@dataclass(frozen=True)
class Split:
    """How the samples were dealt.

    Attributes:
        train, validation: URLs of tars, or keys, as the lists have them.
        train_samples, validation_samples: accepted samples behind them.
    """

    train: tuple[str, ...]
    validation: tuple[str, ...]
    train_samples: int
    validation_samples: int


def split(storage: Storage, *, share: float, seed: int = 0, by_key: bool = False) -> Split:
    """Writes `splits/train.txt` and `splits/val.txt`, a tar's URL or a key per line, in the plan's order.

    Samples of one source image are a group, and where whole shards are dealt, groups that share a shard are one. The
    side of a group follows from a hash of the seed and its first key, so it is the same on every machine, and stays
    when samples of other images are added. The share is therefore met on average only. Where a side would be empty, it
    gets the group that comes next.

    Args:
        storage: a complete output.
        share: of the groups that go to validation, above 0 and below 1.
        seed: another one deals otherwise.
        by_key: deals samples instead of shards.

    Raises:
        OutputError: the output is not complete, or cannot be divided.
        ValueError: a share out of its range.
    """
    if not 0 < share < 1:
        raise ValueError(f"the share is {share}; allowed: above 0 and below 1")
    with Lock(storage) as lock:
        return _split(lock.storage, share, seed, by_key=by_key)


def _split(storage: Storage, share: float, seed: int, *, by_key: bool) -> Split:
    plan = read_plan(storage)
    sidecars = read_sidecars(storage)
    if len(sidecars) < plan.shards:
        raise OutputError(
            f"{storage.url} is not complete: {len(sidecars)} of {plan.shards} shards; finish its build first"
        )
    group_of = _groups(plan, whole_shards=not by_key)
    lines = list(_keys(storage, plan) if by_key else _tars(storage, plan, sidecars))
    held_out = _held_out({group_of[key] for _, key, _ in lines}, share, seed, storage.url)
    sides: tuple[list[str], list[str]] = ([], [])
    samples = [0, 0]
    for line, key, count in lines:
        side = group_of[key] in held_out
        sides[side].append(line)
        samples[side] += count
    # Never one list of this split beside one of another: their samples would overlap.
    for path in (TRAIN, VALIDATION):
        storage.remove(path)
    for path, side_lines in zip((TRAIN, VALIDATION), sides, strict=True):
        storage.settle(path, "".join(f"{line}\n" for line in side_lines).encode())
    return Split(tuple(sides[0]), tuple(sides[1]), samples[0], samples[1])


def _tars(storage: Storage, plan: Plan, sidecars: Mapping[int, Sidecar]) -> Iterator[tuple[str, str, int]]:
    """URL, first planned key and accepted samples of every tar."""
    for number, sidecar in sidecars.items():
        if sidecar.tar is not None:
            yield f"{storage.url}/{tar_path(number)}", plan.shard(number)[0].key, sidecar.accepted


def _keys(storage: Storage, plan: Plan) -> Iterator[tuple[str, str, int]]:
    for number in range(plan.shards):
        for row in read_index(storage, number):
            if row["status"] == "accepted":
                yield str(row["key"]), str(row["key"]), 1


def _groups(plan: Plan, *, whole_shards: bool) -> dict[str, str]:
    """The group of every planned item by key; a group is named by the first of its keys in the alphabet."""
    groups = _Groups()
    by_image: dict[str, str] = {}
    for number in range(plan.shards):
        items = plan.shard(number)
        for item in items:
            groups.join(item.key, by_image.setdefault(_image(item), item.key))
            if whole_shards:
                groups.join(item.key, items[0].key)
    for key in list(groups.parent):
        stem = key
        while (shorter := _VARIANT.sub("", stem)) != stem:
            stem = shorter
            if stem in groups.parent:
                groups.join(key, stem)
    return {key: groups.first(key) for key in groups.parent}


class _Groups:
    """Keys that belong together; the first of them in the alphabet stands for all."""

    def __init__(self) -> None:
        self.parent: dict[str, str] = {}

    def first(self, key: str) -> str:
        first = key
        while self.parent[first] != first:
            first = self.parent[first]
        while self.parent[key] != first:
            self.parent[key], key = first, self.parent[key]
        return first

    def join(self, one: str, other: str) -> None:
        for key in (one, other):
            self.parent.setdefault(key, key)
        least, most = sorted((self.first(one), self.first(other)))
        self.parent[most] = least


def _image(item: Reference) -> str:
    """What identifies a source image: its file, and its name or row in that file."""
    try:
        return place_in(item.url, item.member)
    except ValueError:
        return f"{item.url}\0{item.member}"


def _held_out(groups: set[str], share: float, seed: int, url: str) -> set[str]:
    if len(groups) < 2:
        raise OutputError(
            f"{url} cannot be divided: all its samples are of one shard or one source image; with --by key samples are "
            "dealt instead of shards"
        )
    ranked = sorted((_fraction(group, seed), group) for group in groups)
    held_out = {group for fraction, group in ranked if fraction < share}
    if not held_out:
        return {ranked[0][1]}
    return held_out if len(held_out) < len(groups) else held_out - {ranked[-1][1]}


def _fraction(group: str, seed: int) -> float:
    """In [0, 1), from nothing but the arguments."""
    digest = hashlib.sha256(f"{seed}\0{group}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
