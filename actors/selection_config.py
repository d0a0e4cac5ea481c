"""Which images are selected, as plain data. Imports neither torch nor numpy, so that planning stays light."""

from __future__ import annotations

from typing import Any

from pydantic import Field, ValidationInfo, field_validator

from actors.config import Config, Inside, not_allowed


class SelectionConfig(Config):
    """Which images are selected: by size and shape, and by the artifacts that a detector finds on them."""

    smallest_side: int = Field(default=64, ge=1, description="pixels that the shorter side must have")
    largest_aspect: float = Field(default=3.0, ge=1, description="longer side over shorter side")
    largest_pixels: int = Field(default=64_000_000, ge=1, description="width times height, before decoding")
    largest_artifact_area: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="share of the image in which the detector may find artifacts already",
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
        limited = info.data["largest_artifact_area"] is not None
        if limited and info.field_name == "detector" and not value:
            raise not_allowed("a folder or hub id, since selection.largest_artifact_area is set")
        if not limited and value != cls.model_fields[str(info.field_name)].default:
            raise not_allowed("nothing but the default, unless selection.largest_artifact_area is set")
        return value
