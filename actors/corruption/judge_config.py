"""The model that decides whether a change is an artifact, as plain data. Imports neither torch nor numpy."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field, ValidationInfo, field_validator

from actors.config import Config, Inside, not_allowed


class JudgeConfig(Config):
    """Who judges the draws of a corruption, and what it must find. See `actors.corruption.judge`."""

    kind: Literal["detector"] = Field(description="what it is: a segmenter of the classes clean and artifact")
    folder: str = Field(description="of its weights, as flawforge train writes it, or a hub id")
    revision: str | None = Field(default=None, description="commit or tag on the hub")
    threshold: Inside | None = Field(
        default=None,
        description="probability from which a pixel is marked; null is the model's own, chosen on its validation",
    )
    least_area: float = Field(
        default=0.0029,
        gt=0,
        le=1,
        description="share of the image that must be newly marked in a region: 12 pixels of 64 x 64",
    )
    least_pixels: int | None = Field(
        default=None, ge=1, description="the same in pixels, and then least_area is idle"
    )
    every_region: bool = Field(
        default=False, description="ask for an artifact in every connected region, not in one of them"
    )
    batch_size: int = Field(default=8, ge=1, le=4096, description="images that are judged in one step")

    @field_validator("folder")
    @classmethod
    def _some_folder(cls, value: str) -> str:
        if not value.strip():
            raise not_allowed("a folder, shipped name or hub id")
        return value

    @field_validator("least_pixels")
    @classmethod
    def _one_limit(cls, value: int | None, info: ValidationInfo) -> int | None:
        area = cls.model_fields["least_area"].default
        if value is not None and info.data.get("least_area", area) != area:
            raise not_allowed("nothing, since verify.judge.least_area is set")
        return value

    def least(self, height: int, width: int) -> int:
        """Pixels that must be marked in a region of an image of this size, at least one."""
        if self.least_pixels is not None:
            return self.least_pixels
        # Rounded, so that 0.1 of 100 pixels is 10 of them whatever the last bit of the product is.
        return max(1, math.ceil(round(self.least_area * height * width, 6)))
