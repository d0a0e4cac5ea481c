"""What a person sees while a run goes on: a live view on a terminal, otherwise a line every 30 seconds."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

SECONDS_BETWEEN_LINES = 30.0


@dataclass
class Tally:
    """Counts of a run so far.

    Attributes:
        planned: items of the whole plan.
        before: items that were done when this run began.
        accepted, rejected: items done, earlier runs included.
        reasons: rejected items by reason.
        began: monotonic time of the run's beginning.
    """

    planned: int
    before: int = 0
    accepted: int = 0
    rejected: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    began: float = field(default_factory=time.monotonic)

    @property
    def done(self) -> int:
        return self.accepted + self.rejected

    @property
    def speed(self) -> float:
        """Items per second of this run, start-up included."""
        return (self.done - self.before) / max(time.monotonic() - self.began, 1e-9)

    def line(self) -> str:
        """`384/512 accepted 351 (91 %) 3.1 img/s left 0:41 rejects: unchanged 30, spilled 3`."""
        rate = f"{self.accepted / self.done:.0%}" if self.done else "-"
        left = self.planned - self.done
        wait = _clock(left / self.speed) if self.speed > 0 and self.done > self.before else "?"
        top = ", ".join(f"{reason} {count}" for reason, count in self.reasons.most_common(3))
        return (
            f"{self.done}/{self.planned} done, {self.accepted} accepted ({rate}), {self.speed:.1f} images/s, "
            f"{wait} left" + (f"; rejects: {top}" if top else "")
        )


class LiveMonitor:
    """A bar that is redrawn."""

    def __init__(self, console: Console) -> None:
        self._bar = Progress(
            BarColumn(bar_width=28),
            MofNCompleteColumn(),
            TextColumn("{task.description}"),
            TimeRemainingColumn(),
            console=console,
        )
        self._task: TaskID | None = None

    def __enter__(self) -> LiveMonitor:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def show(self, tally: Tally) -> None:
        if self._task is None:
            self._task = self._bar.add_task("starting", total=tally.planned)
        self._bar.update(self._task, completed=tally.done, description=tally.line().split(" done, ")[1])


class LineMonitor:
    """A line when 30 seconds have passed since the last one, and one at the end."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._last = 0.0
        self._latest: Tally | None = None

    def __enter__(self) -> LineMonitor:
        return self

    def __exit__(self, *_: object) -> None:
        if self._latest is not None:
            self._console.print(self._latest.line(), highlight=False)

    def show(self, tally: Tally) -> None:
        self._latest = tally
        if time.monotonic() - self._last >= SECONDS_BETWEEN_LINES:
            self._last = time.monotonic()
            self._console.print(tally.line(), highlight=False)


def monitor(console: Console) -> LiveMonitor | LineMonitor:
    """The view that fits the console."""
    return LiveMonitor(console) if console.is_terminal else LineMonitor(console)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
