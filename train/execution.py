"""Where a training runs, how it is saved, and who is told of it: what may change on every resume."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from actors.config import LISTED, Config, not_allowed

Tracker = Literal["wandb", "mlflow"]
"""The trackers of `train.trackers`; each is the name of its package, and of an extra of ours."""


class Workers(Config):
    """Where the training runs. It changes the speed, and the order of floating-point sums."""

    workers: Annotated[Annotated[int, Field(ge=1, le=4096)] | tuple[int, int], LISTED] = Field(
        default=1, description="processes, or the fewest and the most of an elastic training"
    )
    cpus: float = Field(default=1.0, gt=0, description="CPUs of a worker")
    gpus: float = Field(default=0.0, ge=0, description="GPUs of a worker")
    micro_batch: int | None = Field(
        default=None,
        ge=1,
        description="images per forward pass; a worker accumulates its share. null: all at once",
    )
    threads: int = Field(default=1, ge=1, le=1024, description="CPU threads of the network in a worker")
    decoders: int = Field(
        default=1, ge=1, le=256, description="threads of a worker that read and decode images"
    )
    save_every: int = Field(default=500, ge=1, description="steps between two checkpoints")
    keep: int = Field(default=2, ge=1, description="checkpoints that are kept")
    log_samples: bool = Field(default=False, description="write which sample each slot of each step was")
    trackers: Annotated[tuple[Tracker, ...], LISTED] = Field(
        default=(),
        description="experiment trackers that get the curves beside TensorBoard; each is an extra of the package",
    )
    retries: int = Field(
        default=3,
        ge=0,
        description="restarts in a row after lost workers without a new checkpoint in between",
    )
    patience: float = Field(default=0, ge=0, description="seconds that a joined cluster may take to grow")
    resize_every: float = Field(
        default=60,
        gt=0,
        description="seconds between two looks of an elastic training at the cluster's nodes",
    )
    time_out: float = Field(
        default=1800, gt=0, description="seconds after which workers that wait for each other give up"
    )

    @field_validator("workers")
    @classmethod
    def _rising(cls, value: int | tuple[int, int]) -> int | tuple[int, int]:
        if isinstance(value, tuple) and not 1 <= value[0] <= value[1]:
            raise not_allowed("two rising whole numbers of at least 1")
        return value

    @field_validator("trackers")
    @classmethod
    def _once(cls, value: tuple[Tracker, ...]) -> tuple[Tracker, ...]:
        if len(set(value)) != len(value):
            raise not_allowed("each tracker once")
        return value

    @property
    def fewest(self) -> int:
        return self.workers if isinstance(self.workers, int) else self.workers[0]

    @property
    def most(self) -> int:
        return self.workers if isinstance(self.workers, int) else self.workers[1]

    @property
    def elastic(self) -> bool:
        return not isinstance(self.workers, int)

    @property
    def device(self) -> str:
        return "cuda" if self.gpus else "cpu"
