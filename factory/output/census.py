"""Which shards of an output are done: made for its plan by its recipe, with every file in its place.

A sidecar alone does not prove it: a run that was suspended, lost the lock, and woke up in the middle of a write may
have left one of another recipe.
"""

from __future__ import annotations

import re
from functools import partial

from actors.errors import OutputError
from factory.output.identity import read_identity
from factory.output.manifest import done_shards
from factory.output.plan import Plan
from factory.output.provenance import digests_by_shard, parts_of
from factory.output.shards.records import Sidecar, index_path, read_sidecar, stats_path, tar_path
from factory.store.remote import read_ahead
from factory.store.storage import Storage

_READS_AT_ONCE = 16
_NAME = re.compile(r"(\d{6,})\.(json|parquet|tar)")


def take_census(storage: Storage, plan: Plan) -> dict[int, Sidecar]:
    """The sidecars of the shards that are done, by number, rising.

    Each is compared with the plan, and with the sizes of the files that it names.

    A damaged sidecar counts as missing: its shard is made again.

    Raises:
        OutputError: an identity or a recipe is missing or damaged.
    """
    digests = digests_by_shard(parts_of(storage, plan))
    plans = {version.number: read_identity(storage, version.number)[1] for version in plan.versions}
    tars, indexes = storage.sizes("shards"), storage.sizes("index")
    numbers = sorted(number for number in done_shards(storage) if number < plan.shards)
    done: dict[int, Sidecar] = {}
    for number, sidecar in zip(
        numbers, read_ahead(partial(sound_sidecar, storage), numbers, _READS_AT_ONCE), strict=True
    ):
        if (
            sidecar is not None
            and sidecar.digest == digests[number]
            and sidecar.plan_sha256 in ("", plans[plan.version_of(number).number])
            and sidecar.planned == plan.size(number)
            and tars.get(_file(tar_path(number))) == (sidecar.tar.bytes if sidecar.tar else None)
            and indexes.get(_file(index_path(number))) == sidecar.index.bytes
        ):
            done[number] = sidecar
    return done


def sound_sidecar(storage: Storage, number: int) -> Sidecar | None:
    """The sidecar of a shard; None where it is damaged, or has gone since it was listed.

    Raises:
        OutputError: the file cannot be read.
    """
    try:
        return read_sidecar(storage, number)
    except OutputError:
        if storage.exists(stats_path(number)):
            storage.read(stats_path(number))  # a store in trouble, and no damage, raises here too
        return None


def strays_of(storage: Storage, plan: Plan) -> tuple[str, ...]:
    """Files with names of shards that the plan does not have; readers would take them for part of the data."""
    return tuple(
        f"{folder}/{name}"
        for folder in ("shards", "index", "stats")
        for name in storage.names(folder)
        if (match := _NAME.fullmatch(name)) and int(match[1]) >= plan.shards
    )


def _file(path: str) -> str:
    return path.rpartition("/")[2]
