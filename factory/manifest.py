"""The manifest: rebuilt from the shards' sidecars, never kept by hand."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from actors.errors import OutputError
from factory.identity import Identity
from factory.plan import Plan, shard_name
from factory.schema import SCHEMA_VERSION
from factory.shards.records import stats_path, tar_path
from factory.storage import Storage

PATH = "manifest.json"


@dataclass(frozen=True)
class Progress:
    """Counts over the shards that are done.

    Attributes:
        planned, accepted, rejected: items; `planned` is of the whole plan, the others of the done shards.
        unverified: accepted items that the verifier refused and the recipe keeps.
        shards, done: number of planned and of published shards.
        reasons: rejected items by reason.
        unet_rows: UNet evaluations spent.
        seconds: wall time by stage, summed over shards.
    """

    planned: int
    accepted: int
    rejected: int
    unverified: int
    shards: int
    done: int
    reasons: Mapping[str, int]
    unet_rows: int
    seconds: Mapping[str, float]

    @property
    def complete(self) -> bool:
        """Whether every planned shard is published."""
        return self.done == self.shards


def done_shards(storage: Storage) -> set[int]:
    """Numbers of the published shards: those that have a sidecar."""
    names = (name.removesuffix(".json") for name in storage.names("stats") if name.endswith(".json"))
    return {int(name) for name in names if name.isdecimal()}


def read_stats(storage: Storage, number: int) -> dict[str, Any]:
    """Raises OutputError when the sidecar is missing or damaged."""
    try:
        stats = json.loads(storage.read(stats_path(number)))
    except ValueError as error:
        raise OutputError(f"{storage.url}: {stats_path(number)} is damaged: {error}") from error
    if not isinstance(stats, dict):
        raise OutputError(f"{storage.url}: {stats_path(number)} is damaged: it holds no object")
    return stats


def progress(plan: Plan, sidecars: Mapping[int, Mapping[str, Any]]) -> Progress:
    """Adds up sidecars, given by shard number."""
    reasons: Counter[str] = Counter()
    seconds: Counter[str] = Counter()
    for stats in sidecars.values():
        reasons.update(stats["reasons"])
        seconds.update(stats["seconds"])
    total = {
        name: sum(int(stats[name]) for stats in sidecars.values())
        for name in ("accepted", "rejected", "unverified", "unet_rows")
    }
    return Progress(
        planned=plan.items,
        shards=len(plan.sizes),
        done=len(sidecars),
        reasons=dict(reasons.most_common()),
        seconds=dict(seconds),
        **total,
    )


def write_manifest(storage: Storage, plan: Plan, identity: Identity, name: str) -> Progress:
    """Rebuilds `manifest.json` from `stats/` and returns the totals."""
    sidecars = {number: read_stats(storage, number) for number in sorted(done_shards(storage))}
    total = progress(plan, sidecars)
    document = {
        "schema_version": SCHEMA_VERSION,
        "name": name,
        "digest": identity.digest,
        "models": dict(identity.models),
        "versions": dict(identity.versions),
        "complete": total.complete,
        "totals": {
            "planned": total.planned,
            "accepted": total.accepted,
            "rejected": total.rejected,
            "unverified": total.unverified,
            "reasons": dict(sorted(total.reasons.items())),
            "unet_rows": total.unet_rows,
        },
        "skipped_while_listing": dict(plan.skipped),
        "shards": [
            {
                "name": shard_name(number),
                "url": tar_path(number) if stats["tar"] else None,
                "planned": stats["planned"],
                "accepted": stats["accepted"],
                "bytes": stats["tar"]["bytes"] if stats["tar"] else 0,
                "sha256": stats["tar"]["sha256"] if stats["tar"] else None,
            }
            for number, stats in sidecars.items()
        ],
    }
    storage.replace(PATH, json.dumps(document, indent=1).encode())
    return total
