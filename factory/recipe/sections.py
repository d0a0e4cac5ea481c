"""The sections of a recipe, each strict, frozen and complete, and what they ask of their values."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from actors.stage_names import StageName
from factory.recipe.errors import not_allowed

Share = Annotated[float, Field(ge=0, le=1)]
Inside = Annotated[float, Field(gt=0, lt=1)]


class Section(BaseModel):
    """Strict and frozen; a whole number will do for a fraction.

    Checks that span two keys are validators of the later key, so that they report its own place, and are made
    whatever else is wrong. For them to see a key that is not written, defaults are validated too.
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, validate_default=True, allow_inf_nan=False
    )


class Selection(Section):
    """Which images are fit to be worked on."""

    smallest_side: int = Field(default=64, ge=1, description="pixels that the shorter side must have")
    largest_aspect: float = Field(default=3.0, ge=1, description="longer side over shorter side")
    largest_pixels: int = Field(default=64_000_000, ge=1, description="width times height, before decoding")
    largest_artifact_area: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="share of the image in which the detector may see artifacts already",
    )
    detector: str | None = Field(default=None, description="folder or hub id of the detector")
    detector_revision: str | None = Field(default=None, description="commit or tag on the hub")
    detector_threshold: Inside = Field(
        default=0.5, description="probability from which a pixel is an artifact already"
    )

    @field_validator("detector", "detector_revision", "detector_threshold")
    @classmethod
    def _only_with_an_area(cls, value: Any, info: ValidationInfo) -> Any:
        if "largest_artifact_area" not in info.data:
            return value
        asked = info.data["largest_artifact_area"] is not None
        if asked and info.field_name == "detector" and not value:
            raise not_allowed("a folder or hub id, since selection.largest_artifact_area is set")
        if not asked and value != cls.model_fields[str(info.field_name)].default:
            raise not_allowed("nothing but the default, unless selection.largest_artifact_area is set")
        return value


class Regions(Section):
    """Where artifacts go: masks that the source gives, or those that a segmenter predicts."""

    kind: Literal["source", "segmenter"] = Field(description="masks of the source, or predicted ones")
    checkpoint: str | None = Field(default=None, description="folder or hub id of the segmenter")
    revision: str | None = Field(default=None, description="commit or tag on the hub")
    threshold: Inside = Field(default=0.5, description="probability from which a pixel is in the region")
    smallest_area: Share = Field(default=0.001, description="share of the image that a region must cover")
    largest_area: Share = Field(default=0.5, description="share of the image that a region may cover")
    batch_size: int = Field(
        default=8, ge=1, le=4096, description="images in one step of a segmenter or detector"
    )

    @field_validator("checkpoint", "revision")
    @classmethod
    def _only_for_a_segmenter(cls, value: str | None, info: ValidationInfo) -> str | None:
        kind = info.data.get("kind")
        if kind == "source" and value is not None:
            raise not_allowed("nothing, since regions.kind is source")
        if kind == "segmenter" and info.field_name == "checkpoint" and not value:
            raise not_allowed("a folder or hub id, since regions.kind is segmenter")
        return value

    @field_validator("largest_area")
    @classmethod
    def _above_smallest(cls, value: float, info: ValidationInfo) -> float:
        if value <= info.data.get("smallest_area", -1):
            raise not_allowed(f"a number above smallest_area ({info.data['smallest_area']}), at most 1")
        return value


class Verify(Section):
    """What must have changed, and what may have, for an item to become a sample."""

    changed_threshold: Inside = Field(default=0.1, description="difference, 0..1, that makes a pixel changed")
    least_inside: Share = Field(default=0.2, description="share of the mask that must have changed")
    most_outside: Share = Field(default=0.02, description="share of the pixels outside that may have changed")
    margin: int = Field(
        default=2, ge=0, le=64, description="latent cells around the mask that are not judged"
    )
    baseline: Literal["passage", "autoencoder"] = Field(
        default="passage",
        description="what is compared: inverted and resampled without corruption, at k UNet evaluations; or the image "
        "through the autoencoder alone, which costs none and is what happens with the target image",
    )
    attempts: int = Field(
        default=1, ge=1, le=16, description="draws at each k; one, where the method has no chance in it"
    )
    on_failure: Literal["reject", "keep"] = Field(default="reject", description="after the last draw")


class Output(Section):
    """What the shards hold."""

    samples_per_shard: int = Field(
        default=128, ge=1, le=1_000_000, description="planned items in a shard, before rejects"
    )
    original: bool = Field(default=True, description="store the clean image with every sample")


class Limits(Section):
    """When a run has gone wrong though nothing failed."""

    rejects: Share = Field(default=1.0, description="share of rejects above which the exit code is 3")


class Pool(Section):
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


class Execution(Section):
    """Where and how fast the work is done. It never changes a byte of the output."""

    load: LightPool = Field(default=LightPool(), description="read, check and resize")
    select: LightPool = Field(default=LightPool(), description="find the regions")
    corrupt: Pool = Field(default=Pool(), description="invert, corrupt, resample, verify")
    write: LightPool = Field(default=LightPool(), description="build and publish shards")
    passes: int = Field(default=3, ge=1, description="times that missing shards are tried again in one run")
    patience: float = Field(
        default=0, ge=0, description="seconds that a joined cluster may take to grow to the smallest pools"
    )
    hardware: Literal["any", "same"] = Field(
        default="any",
        description="same: refuse workers of another hardware class than the first shard's; any: report a mix",
    )

    @property
    def pools(self) -> dict[StageName, Pool]:
        """The pools by stage, in the order of the pipeline."""
        return {
            StageName.LOAD: self.load,
            StageName.SELECT: self.select,
            StageName.CORRUPT: self.corrupt,
            StageName.WRITE: self.write,
        }
