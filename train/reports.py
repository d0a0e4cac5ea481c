"""What worker 0 tells of a training: its curves, its trackers and its progress."""

from __future__ import annotations

import contextlib
from types import TracebackType

from factory.store.storage import Storage
from train.curves import Curves
from train.hooks import Report
from train.progress import RUNNING, Progress, ProgressFile
from train.recipe import TrainingRecipe
from train.trackers.delivery import Trackers
from train.trackers.tracked_run import TrackedRun


class Reports:
    """Takes the reports of a loop; a context manager.

    Args:
        recipe: of the training.
        digest: of the training.
        storage: the output.
        start: steps that were done before.
        workers: their number.
        restarts: of the workers so far.
    """

    def __init__(
        self,
        recipe: TrainingRecipe,
        digest: str,
        storage: Storage,
        *,
        start: int,
        workers: int,
        restarts: int,
    ) -> None:
        self._recipe, self._workers, self._restarts = recipe, workers, restarts
        self._curves = Curves(storage, start)
        self._trackers = Trackers(recipe.execution.trackers, TrackedRun.of(recipe, digest, storage.url))
        self._file = ProgressFile(storage)
        self._stack = contextlib.ExitStack()
        self._latest: Report | None = None

    def __enter__(self) -> Reports:
        self._stack.enter_context(self._curves)
        self._stack.enter_context(self._trackers)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)
        if kind is None and self._latest is not None and self._trackers.trouble:
            self._file.write(self._progress(self._latest))

    def add(self, report: Report) -> None:
        """Take the report of a step."""
        self._latest = report
        self._curves.add(report)
        self._trackers.add(report)
        if self._file.due or report.step in (report.checkpoint, self._recipe.iterations):
            self._file.write(self._progress(report))

    def copy(self) -> None:
        """Copy what is on this machine to the output."""
        self._curves.copy()

    def _progress(self, report: Report) -> Progress:
        recipe, best = self._recipe, report.best
        left = (recipe.iterations - report.step) * recipe.batch
        return Progress(
            phase=RUNNING,
            step=report.step,
            iterations=recipe.iterations,
            loss=report.loss,
            rate=report.rate,
            images_per_second=report.images_per_second,
            seconds_left=left / report.images_per_second if report.images_per_second else None,
            waited=report.waited,
            workers=self._workers,
            checkpoint=report.checkpoint,
            validation=best.figures if best else None,
            best=best.step if best else None,
            skipped=report.skipped,
            restarts=self._restarts,
            trouble=self._trackers.trouble,
        )
