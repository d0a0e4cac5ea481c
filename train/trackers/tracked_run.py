"""What a tracker gets of a training, and what it has to be able to do."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from actors.redaction import redact
from factory.recipe.recipe import digest
from train.recipe import TrainingRecipe, published

PROJECT = "flawforge"
"""The project of W&B, and the experiment of MLflow, where the environment names none."""


@dataclass(frozen=True)
class Figures:
    """The figures of one step.

    Attributes:
        step: number of steps done.
        time: seconds since 1970, UTC.
        values: see `train.hooks.Report.figures`.
    """

    step: int
    time: float
    values: Mapping[str, float]


@dataclass(frozen=True)
class TrackedRun:
    """What a run of a tracker is made from.

    Attributes:
        id: 32 hexadecimal digits, the same whenever this training goes on in this output.
        name: for people.
        config: the recipe without the secrets of its URLs, as JSON has it.
    """

    id: str
    name: str
    config: Mapping[str, Any]

    @classmethod
    def of(cls, recipe: TrainingRecipe, training: str, url: str) -> TrackedRun:
        """The run of a training.

        Args:
            recipe: of the training.
            training: its digest.
            url: of its output.
        """
        name = digest({"training": training, "output": redact(url)})[:32]
        return cls(name, recipe.name, published(recipe).model_dump(mode="json"))


class TrackerRun(Protocol):
    """A run of a tracker that has begun. Every method may raise anything, and may take long."""

    def log(self, rows: Sequence[Figures]) -> None:
        """Record figures, by rising steps; rows that were recorded before may come again."""

    def finish(self, *, failed: bool) -> None:
        """Wait until everything is recorded, and mark the run as finished or failed."""


Opener = Callable[[TrackedRun], TrackerRun]
"""Begins a run, or continues the one of the same id."""
