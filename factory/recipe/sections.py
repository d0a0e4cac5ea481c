"""The sections of a recipe, each strict, frozen and complete, and the checks of their values."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, ValidationInfo, field_validator

from actors.config import Config, Share, not_allowed
from actors.stage_names import StageName


class Output(Config):
    """What the shards hold."""

    samples_per_shard: int = Field(
        default=128, ge=1, le=1_000_000, description="planned items in a shard, before rejects"
    )
    original: bool = Field(default=True, description="store the clean image with every sample")


class Limits(Config):
    """When a run has gone wrong though nothing failed."""

    rejects: Share = Field(default=1.0, description="share of rejects above which the exit code is 3")


class Pool(Config):
    """The workers of one stage: how many, and what each of them may use."""

    cpus: float = Field(default=1.0, gt=0, description="CPUs of a worker")
    gpus: float = Field(default=0.0, ge=0, description="GPUs of a worker; a fraction shares one")
    smallest: int = Field(default=1, ge=1, description="workers in the pool at least")
    largest: int = Field(default=1, ge=1, description="workers in the pool at most")
    memory: int | None = Field(default=None, ge=1, description="bytes of a worker, for the scheduler")

    @field_validator("largest")
    @classmethod
    def _at_least_smallest(cls, value: int, info: ValidationInfo) -> int:
        if value < info.data.get("smallest", value):
            raise not_allowed(f"a whole number of at least smallest ({info.data['smallest']})")
        return value


class LightPool(Pool):
    """The workers of a stage that mostly waits for files or copies data."""

    cpus: float = Field(default=0.25, gt=0, description="CPUs of a worker")


class RunSettings(Config):
    """How a run deals with trouble, and with machines that differ. It never changes a byte of the output."""

    passes: int = Field(default=3, ge=1, description="times that missing shards are tried again in one run")
    patience: float = Field(
        default=0, ge=0, description="seconds that a joined cluster may take to grow to the smallest pools"
    )
    hardware: Literal["any", "same"] = Field(
        default="any",
        description="same: refuse workers of another hardware class than the first shard's; any: report a mix",
    )


class Execution(RunSettings):
    """Where and how fast the work is done. It never changes a byte of the output."""

    load: LightPool = Field(default=LightPool(), description="read, check and resize")
    select: LightPool = Field(default=LightPool(), description="find the regions")
    corrupt: Pool = Field(default=Pool(), description="invert, corrupt, resample, verify")
    write: LightPool = Field(default=LightPool(), description="build and publish shards")

    @property
    def pools(self) -> dict[StageName, Pool]:
        """The pools by stage, in the order of the pipeline."""
        return {
            StageName.LOAD: self.load,
            StageName.SELECT: self.select,
            StageName.CORRUPT: self.corrupt,
            StageName.WRITE: self.write,
        }
