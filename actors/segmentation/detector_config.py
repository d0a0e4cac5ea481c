"""The detector of a prediction, as plain data. Imports neither torch nor numpy, so that planning stays light."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from actors.config import Config, Inside


class DetectorConfig(Config):
    """The network that marks artifacts, and how images go through it."""

    folder: str = Field(
        description="folder or hub id of a detector or region selector, or a shipped one: tinytown/regions-convnext"
    )
    revision: str | None = Field(default=None, description="commit or tag on the hub")
    threshold: Inside | None = Field(
        default=None,
        description="probability from which a pixel is marked; null takes what the training chose, else 0.5",
    )
    dtype: Literal["float32", "bfloat16", "float16"] = Field(
        default="float32", description="of the network; on a GPU, half precision is faster"
    )
    batch_size: int = Field(default=8, ge=1, le=4096, description="images, or tiles, in one step")
    tile: int | None = Field(
        default=None, ge=1, description="side in pixels of the tiles of larger images; null scores them whole"
    )
    threads: int = Field(default=1, ge=1, le=1024, description="CPU threads of the network in a worker")
