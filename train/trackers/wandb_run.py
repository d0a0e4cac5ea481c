"""A training as a run of Weights & Biases."""

from __future__ import annotations

import os
from collections.abc import Sequence

from train.trackers.tracked_run import PROJECT, Figures, TrackedRun


class WandbRun:
    """The run with the training's id, in the project that `WANDB_PROJECT` names.

    Raises:
        Exception: whatever wandb raises, here and in the methods.
    """

    def __init__(self, run: TrackedRun) -> None:
        import wandb

        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            name=os.environ.get("WANDB_NAME", run.name),
            id=run.id,
            resume="allow",
            config=dict(run.config),
            allow_val_change=True,  # A resumed training may change `execution`.
            settings=wandb.Settings(console="off"),  # Ray has the output of its workers.
        )
        self._next = self._run.step

    def log(self, rows: Sequence[Figures]) -> None:
        """Record the figures, but for steps that the run already has: W&B takes rising steps only."""
        for row in rows:
            if row.step >= self._next:
                self._run.log(dict(row.values), step=row.step)
                self._next = row.step + 1

    def finish(self, *, failed: bool) -> None:
        """Wait until all is sent, or written where `WANDB_MODE` is offline."""
        self._run.finish(exit_code=int(failed))
