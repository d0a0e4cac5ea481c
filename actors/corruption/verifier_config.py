"""What makes a corruption a sample, as plain data. Imports neither torch nor numpy, so that planning stays light."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from actors.config import Config, Inside, Share
from actors.corruption.judge_config import JudgeConfig


class VerifierConfig(Config):
    """What must have changed, and what may have, for a corruption to be accepted; and how often one is drawn."""

    changed_threshold: Inside = Field(default=0.1, description="difference, 0..1, that makes a pixel changed")
    least_inside: Share = Field(default=0.2, description="share of the mask that must have changed")
    most_outside: Share = Field(default=0.02, description="share of the pixels outside that may have changed")
    margin: int = Field(
        default=2, ge=0, le=64, description="latent pixels around the mask that are not judged"
    )
    baseline: Literal["passage", "autoencoder", "original"] = Field(
        default="passage",
        description="what is compared: inverted and resampled without corruption, at k UNet evaluations; the image "
        "through the autoencoder alone, which costs none and is what passage means with the target image; or the clean "
        "image itself, so that what the autoencoder changes counts as well",
    )
    attempts: int = Field(
        default=1, ge=1, le=16, description="draws at each k; one, where the method has no chance in it"
    )
    on_failure: Literal["reject", "keep"] = Field(default="reject", description="after the last draw")
    judge: JudgeConfig | None = Field(
        default=None, description="a model that must find an artifact in the region that was not there before"
    )
