"""The JSON of a sample: its fields, their types and ranges, and the one form in which it is written."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from actors.batch import JUDGED_AREA, METRICS, Sample
from factory.output.schema import SCHEMA_VERSION
from factory.output.shards.further import Further

Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0, lt=1 << 63)]


@dataclass(frozen=True)
class Provenance:
    """How a shard was made.

    Attributes:
        digest, method, inference_steps: fields of every sample's JSON.
        plan_sha256: of the plan that the shard belongs to, for its sidecar.
        further: what the samples have beside the usual.
    """

    digest: str
    method: str
    inference_steps: int
    plan_sha256: str = ""
    further: Further = field(default_factory=Further)


class SampleJson(BaseModel):
    """The content of `KEY.json`.

    Attributes:
        schema_version: of the layout.
        key, source, caption: of the item; the caption may be empty.
        label: kind of artifact.
        method, inference_steps: of the corruption.
        inversion_steps: k of the draw that made the sample.
        seed, attempts: of that draw.
        verified: false only where the recipe keeps what the verifier refused.
        recipe_digest: of the identity that made the sample.
        mask_area, changed_area, change_inside, change_outside, difference_inside, difference_outside: see
            `actors.corruption.verifier.Verifier.measure`.
        candidates, regions: connected regions that could have been chosen, and those of the mask. `candidates` is
            absent where all are chosen, both where there is no judge either.
        broken_regions, judged_area: connected regions in which the judge finds an artifact, and the share of the
            image's pixels in `judged.png`; absent without a judge.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    schema_version: Count
    key: str
    source: str
    caption: str
    label: Literal["unspecified"]
    method: str
    inference_steps: Count
    inversion_steps: Count
    seed: Count
    attempts: Count
    verified: bool
    recipe_digest: str
    mask_area: Share
    changed_area: Share
    change_inside: Share
    change_outside: Share
    difference_inside: Share
    difference_outside: Share
    candidates: Count | None = None
    regions: Count | None = None
    broken_regions: Count | None = None
    judged_area: Share | None = None

    @classmethod
    def of(cls, sample: Sample, how: Provenance) -> SampleJson:
        """The JSON of an accepted sample."""
        counts: dict[str, int] = {name: getattr(sample, name) for name in how.further.counts}
        metrics = {name: float(sample.metrics[name]) for name in METRICS}
        return cls(
            schema_version=SCHEMA_VERSION,
            key=sample.key,
            source=sample.source,
            caption=sample.caption,
            label="unspecified",
            method=how.method,
            inference_steps=how.inference_steps,
            inversion_steps=sample.inversion_steps,
            seed=sample.seed,
            attempts=sample.attempts,
            verified=sample.verified,
            recipe_digest=how.digest,
            judged_area=float(sample.metrics[JUDGED_AREA]) if how.further.judge else None,
            candidates=counts.get("candidates"),
            regions=counts.get("regions"),
            broken_regions=counts.get("broken_regions"),
            **metrics,
        )

    @property
    def encoded(self) -> bytes:
        """The bytes that a shard holds: keys sorted, ASCII, no null, no other form of the same content."""
        return json.dumps(self.model_dump(exclude_none=True), sort_keys=True, allow_nan=False).encode()
