"""Where artifacts go, as plain data. Imports neither torch nor numpy, so that planning stays light."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, ValidationInfo, field_validator

from actors.config import Config, Inside, Share, not_allowed


class RegionsConfig(Config):
    """Where artifacts go: masks of the source, those that a segmenter predicts, or nowhere, for clean negatives."""

    kind: Literal["source", "segmenter", "none"] = Field(
        description="masks of the source, predicted ones, or empty ones: clean negatives"
    )
    checkpoint: str | None = Field(default=None, description="folder or hub id of the segmenter")
    revision: str | None = Field(default=None, description="commit or tag on the hub")
    threshold: Inside = Field(default=0.5, description="probability from which a pixel is in the region")
    smallest_area: Share = Field(default=0.001, description="share of the image that a region must cover")
    largest_area: Share = Field(default=0.5, description="share of the image that a region may cover")
    share: float = Field(
        default=1.0,
        gt=0,
        le=1,
        description="probability with which each connected region is corrupted; the others are left as they are",
    )
    batch_size: int = Field(
        default=8, ge=1, le=4096, description="images in one step of a segmenter or detector"
    )

    @field_validator("checkpoint", "revision")
    @classmethod
    def _only_for_a_segmenter(cls, value: str | None, info: ValidationInfo) -> str | None:
        kind = info.data.get("kind")
        if kind in ("source", "none") and value is not None:
            raise not_allowed(f"nothing, since regions.kind is {kind}")
        if kind == "segmenter" and info.field_name == "checkpoint" and not value:
            raise not_allowed("a folder or hub id, since regions.kind is segmenter")
        return value

    @field_validator("threshold", "smallest_area", "largest_area", "share")
    @classmethod
    def _only_for_a_region(cls, value: Any, info: ValidationInfo) -> Any:
        if info.data.get("kind") == "none" and value != cls.model_fields[str(info.field_name)].default:
            raise not_allowed("nothing but the default, since regions.kind is none")
        return value

    @field_validator("largest_area")
    @classmethod
    def _above_smallest(cls, value: float, info: ValidationInfo) -> float:
        if value <= info.data.get("smallest_area", -1):
            raise not_allowed(f"a number above smallest_area ({info.data['smallest_area']}), at most 1")
        return value
