"""Hands the figures of a training to its trackers, each on a thread of its own."""

from __future__ import annotations

import importlib.util
import logging
import threading
import time
from collections import deque
from collections.abc import Sequence
from types import TracebackType

from actors.errors import RecipeError
from actors.redaction import scrub
from train.execution import Tracker
from train.hooks import Report
from train.trackers.mlflow_run import MlflowRun
from train.trackers.tracked_run import Figures, Opener, TrackedRun, TrackerRun
from train.trackers.wandb_run import WandbRun

log = logging.getLogger(__name__)

_OPENERS: dict[Tracker, Opener] = {"wandb": WandbRun, "mlflow": MlflowRun}

_PAUSE, _AFTER_TROUBLE = 2.0, 30.0
"""Seconds between two deliveries."""

_LAST = 60.0
"""Seconds that trackers have for what is left when a training ends."""

_AT_ONCE, _KEPT = 200, 100_000
"""Steps in one delivery, and at most kept for a tracker that does not answer."""


def check_installed(trackers: Sequence[Tracker], place: str) -> None:
    """Check that the packages of trackers are installed.

    Args:
        trackers: of the recipe.
        place: where this runs, for the message.

    Raises:
        RecipeError: one is missing.
    """
    missing = [name for name in trackers if not _installed(name)]
    if missing:
        raise RecipeError(
            f"execution.trackers: {' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} not installed "
            f"{place}: pip install 'flawforge[{','.join(missing)}]', or take "
            f"{'it' if len(missing) == 1 else 'them'} out of execution.trackers"
        )


def _installed(package: str) -> bool:
    # wandb makes a folder `wandb`, which Python takes for a package without an `__init__.py`: it has no origin.
    spec = importlib.util.find_spec(package)
    return spec is not None and spec.origin is not None


class Delivery(threading.Thread):
    """Takes figures at any time, and hands them to one tracker.

    A tracker that fails is tried again later, with everything that it has missed.

    Args:
        name: of the tracker, for messages.
        opener: begins its run.
        run: what is tracked.
    """

    def __init__(self, name: str, opener: Opener, run: TrackedRun) -> None:
        super().__init__(name=f"tracker {name}", daemon=True)
        self._tracker_name, self._opener, self._tracked = name, opener, run
        self._rows: deque[Figures] = deque()
        self._taken: list[Figures] = []
        self._dropped = 0
        self._over = threading.Event()
        self._failed = False
        self._delivered = False
        self.trouble = ""
        """The first trouble with the tracker, and in the end what it has not got; for the user."""

    def add(self, row: Figures) -> None:
        """Take the figures of a step."""
        if len(self._rows) < _KEPT:
            self._rows.append(row)
        else:
            self._dropped += 1

    def end(self, *, failed: bool) -> None:
        """Nothing more comes; the rest is delivered now."""
        self._failed = failed
        self._over.set()

    def run(self) -> None:
        """Deliver until the end."""
        tracker: TrackerRun | None = None
        while True:
            over = self._over.is_set()  # Looked up first: all rows have come then.
            pause = _PAUSE
            try:
                tracker = tracker or self._opener(self._tracked)
                self._deliver(tracker)
                if over:
                    tracker.finish(failed=self._failed)
                    self._delivered = True
            except Exception as error:  # A tracker may raise anything, and must not end a training.
                pause = _AFTER_TROUBLE
                self._note(error)
            if over:
                return
            self._over.wait(pause)

    def _deliver(self, tracker: TrackerRun) -> None:
        while self._taken or self._rows:
            while self._rows and len(self._taken) < _AT_ONCE:
                self._taken.append(self._rows.popleft())
            tracker.log(self._taken)
            self._taken.clear()

    def _note(self, error: Exception) -> None:
        log.warning("%s", self._tracker_name, exc_info=error)
        if not self.trouble:
            words = scrub(" ".join(str(error).split())[:300])
            self.trouble = f"{self._tracker_name}: {type(error).__name__}: {words}; the training goes on"

    def settle(self, deadline: float) -> None:
        """Wait until everything is delivered, or a moment of the monotonic clock."""
        self.join(max(0.0, deadline - time.monotonic()))
        if not self._delivered:
            left = len(self._taken) + len(self._rows) + self._dropped
            why = self.trouble or f"{self._tracker_name}: no answer within {_LAST:g} s"
            lost = f"the figures of {left:,} steps are in log.jsonl only" if left else "its run has no end"
            self.trouble = f"{why}; {lost}"


class Trackers:
    """The trackers of a training; a context manager, after which their runs are marked as finished or failed.

    Args:
        names: of the trackers.
        run: what is tracked.
    """

    def __init__(self, names: Sequence[Tracker], run: TrackedRun) -> None:
        self._deliveries = [Delivery(name, _OPENERS[name], run) for name in names]
        self._latest: Figures | None = None

    def __enter__(self) -> Trackers:
        for one in self._deliveries:
            one.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._send()
        deadline = time.monotonic() + _LAST
        for one in self._deliveries:
            one.end(failed=kind is not None)
        for one in self._deliveries:
            one.settle(deadline)

    def add(self, report: Report) -> None:
        """Take the figures of a step; they replace those of the same step, which a checkpoint reports again."""
        if self._latest is not None and self._latest.step != report.step:
            self._send()
        self._latest = Figures(report.step, time.time(), report.figures)

    def _send(self) -> None:
        if self._latest is not None:
            for one in self._deliveries:
                one.add(self._latest)

    @property
    def trouble(self) -> str:
        """What went wrong with the trackers, for the user; empty if nothing did."""
        return "; ".join(one.trouble for one in self._deliveries if one.trouble)
