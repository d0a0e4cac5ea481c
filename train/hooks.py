"""How a training loop reaches the world around it: what it reports, and what it asks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from train.checkpoint import Best


@dataclass(frozen=True)
class Report:
    """What the loop tells of itself after a step, a validation or a checkpoint.

    Attributes:
        step: number of steps done.
        loss: of the latest step.
        rate: learning rate of the latest step.
        best: the best validation so far.
        images_per_second: of all workers, over the latest steps.
        waited: share of that time in which this worker waited for data.
        checkpoint: step of the latest checkpoint; 0 before the first.
        skipped: bad samples so far, by data set.
    """

    step: int
    loss: float
    rate: float
    best: Best | None
    images_per_second: float
    waited: float
    checkpoint: int
    skipped: dict[str, int]

    @property
    def figures(self) -> dict[str, float]:
        """What TensorBoard and the experiment trackers show of the step, by name."""
        figures = {
            "train/loss": self.loss,
            "train/learning_rate": self.rate,
            "speed/images_per_second": self.images_per_second,
            "speed/waiting_for_data": self.waited,
        }
        if self.best is not None:
            figures |= {f"validation/{name}": value for name, value in self.best.figures.items()}
        return figures


@dataclass(frozen=True)
class Hooks:
    """How the loop reaches the world around it.

    Attributes:
        report: called by worker 0 after every step, and after every checkpoint.
        saved: called by all workers after a checkpoint, with figures.
        preempted: called by all workers at the same steps: whether a node is about to be taken away.
    """

    report: Callable[[Report], None] = lambda report: None
    saved: Callable[[dict[str, Any]], None] = lambda figures: None
    preempted: Callable[[], bool] = lambda: False
