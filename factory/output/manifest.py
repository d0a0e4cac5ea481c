"""The manifest: rebuilt from the shards' sidecars, never kept by hand."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from actors.hardware import describe
from factory.output.identity import Identity
from factory.output.plan import Plan, number_in, shard_name
from factory.output.schema import SCHEMA_VERSION
from factory.output.shards.records import Sidecar, read_sidecar, tar_path
from factory.store.remote import read_ahead
from factory.store.storage import Storage

PATH = "manifest.json"

_READS_AT_ONCE = 16


@dataclass(frozen=True)
class Progress:
    """Counts over the shards that are done.

    Attributes:
        planned, accepted, rejected: items; `planned` is of the whole plan, the others of the done shards.
        retried: how many of the planned ones are rejected ones that are tried again, and so counted again.
        unverified: accepted items that the verifier refused and the recipe keeps.
        shards, done: number of planned and of published shards.
        reasons: rejected items by reason.
        skipped: what the source passed over while it was listed, by reason; no items, and not planned.
        unet_rows: UNet evaluations spent.
        seconds: wall time by stage, summed over shards.
        hardware: by stage, how many shards were made on each hardware class; see `actors.hardware`.
    """

    planned: int
    retried: int
    accepted: int
    rejected: int
    unverified: int
    shards: int
    done: int
    reasons: Mapping[str, int]
    skipped: Mapping[str, int]
    unet_rows: int
    seconds: Mapping[str, float]
    hardware: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """Whether every planned shard is published."""
        return self.done == self.shards

    @property
    def mixtures(self) -> list[str]:
        """A line for each stage whose shards were made on several hardware classes, with counts."""
        return [
            f"{stage}: "
            + "; ".join(
                f"{count:,} of {sum(kinds.values()):,} shards on {kind}" for kind, count in kinds.items()
            )
            for stage, kinds in self.hardware.items()
            if len(kinds) > 1
        ]


def done_shards(storage: Storage) -> set[int]:
    """Numbers of the published shards: those that have a sidecar."""
    numbers = (number_in(name, ".json") for name in storage.names("stats"))
    return {number for number in numbers if number is not None}


def progress(plan: Plan, sidecars: Mapping[int, Sidecar]) -> Progress:
    """Adds up sidecars, given by shard number."""
    reasons: Counter[str] = Counter()
    seconds: defaultdict[str, float] = defaultdict(float)
    for sidecar in sidecars.values():
        reasons.update(sidecar.reasons)
        for stage, spent in sidecar.seconds.items():
            seconds[stage] += spent
    return Progress(
        planned=plan.items,
        retried=plan.retried,
        accepted=sum(sidecar.accepted for sidecar in sidecars.values()),
        rejected=sum(sidecar.rejected for sidecar in sidecars.values()),
        unverified=sum(sidecar.unverified for sidecar in sidecars.values()),
        shards=plan.shards,
        done=len(sidecars),
        reasons=dict(reasons.most_common()),
        skipped=dict(plan.skipped),
        unet_rows=sum(sidecar.unet_rows for sidecar in sidecars.values()),
        seconds=dict(seconds),
        hardware=count_hardware({}, sidecars.values()),
    )


def count_hardware(
    before: Mapping[str, Mapping[str, int]], sidecars: Iterable[Sidecar]
) -> dict[str, dict[str, int]]:
    """Adds the shards of sidecars to the counts in `Progress.hardware`, the most frequent class first."""
    found = defaultdict(Counter[str], {stage: Counter(kinds) for stage, kinds in before.items()})
    for sidecar in sidecars:
        for stage, kind in sidecar.hardware.items():
            found[stage][describe(kind)] += 1
    return {
        stage: dict(sorted(kinds.items(), key=lambda one: (-one[1], one[0])))
        for stage, kinds in sorted(found.items())
    }


def read_sidecars(storage: Storage) -> dict[int, Sidecar]:
    """The sidecars of an output by shard number, rising."""
    numbers = sorted(done_shards(storage))
    sidecars = read_ahead(partial(read_sidecar, storage), numbers, _READS_AT_ONCE)
    return dict(zip(numbers, sidecars, strict=True))


def manifest_bytes(
    plan: Plan, identity: Identity, sidecars: Mapping[int, Sidecar], total: Progress, name: str
) -> bytes:
    """The content of `manifest.json`, from nothing but plan, identity and sidecars."""
    document: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "name": name,
        "digest": identity.digest,
        "models": dict(sorted(identity.models.items())),
        "versions": dict(sorted(identity.versions.items())),
        "complete": total.complete,
        "totals": {
            "planned": total.planned,
            "retried": total.retried,
            "accepted": total.accepted,
            "rejected": total.rejected,
            "unverified": total.unverified,
            "reasons": dict(sorted(total.reasons.items())),
            "unet_rows": total.unet_rows,
        },
        **({"hardware": total.hardware} if total.hardware else {}),
        "skipped_while_listing": dict(plan.skipped),
        "shards": [
            {
                "name": shard_name(number),
                "url": tar_path(number) if sidecar.tar else None,
                "planned": sidecar.planned,
                "accepted": sidecar.accepted,
                "bytes": sidecar.tar.bytes if sidecar.tar else 0,
                "sha256": sidecar.tar.sha256 if sidecar.tar else None,
            }
            for number, sidecar in sidecars.items()
        ],
    }
    return json.dumps(document, indent=1).encode()
