"""What a person sees while a run goes on: a live view on a terminal, otherwise a line every 30 seconds."""

from __future__ import annotations

import threading
import time
from collections import Counter

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

from factory.manifest import Progress as Totals
from factory.shards.records import Sidecar

SECONDS_BETWEEN_LINES = 30.0


class Tally:
    """Counts of a run so far.

    Args:
        there: what earlier runs have made of the same plan.

    Attributes:
        planned: items of the whole plan.
        accepted, rejected: items done, earlier runs included.
        reasons: rejected items by reason.
    """

    def __init__(self, there: Totals) -> None:
        self.planned = there.planned
        self.accepted = there.accepted
        self.rejected = there.rejected
        self.reasons = Counter(there.reasons)
        self._before = self.done
        self._began = time.monotonic()

    @property
    def done(self) -> int:
        return self.accepted + self.rejected

    @property
    def speed(self) -> float:
        """Items per second of this run, start-up included."""
        return (self.done - self._before) / max(time.monotonic() - self._began, 1e-9)

    def add(self, sidecar: Sidecar) -> None:
        """Counts a shard that was published."""
        self.accepted += sidecar.accepted
        self.rejected += sidecar.rejected
        self.reasons.update(sidecar.reasons)

    def words(self) -> str:
        """`351 accepted (91%), 3.1 images/s, 0:41 left; rejects: unchanged 30, spilled 3`."""
        rate = f"{self.accepted / self.done:.0%}" if self.done else "-"
        wait = _clock((self.planned - self.done) / self.speed) if self.done > self._before else "?"
        top = ", ".join(f"{reason} {count}" for reason, count in self.reasons.most_common(3))
        return f"{self.accepted} accepted ({rate}), {self.speed:.1f} images/s, {wait} left" + (
            f"; rejects: {top}" if top else ""
        )


class LiveMonitor:
    """A bar that is redrawn."""

    def __init__(self, console: Console) -> None:
        columns = (
            BarColumn(bar_width=28),
            MofNCompleteColumn(),
            TextColumn("{task.description}", markup=False),
        )
        self._bar = Progress(*columns, console=console)
        self._task: TaskID | None = None

    def __enter__(self) -> LiveMonitor:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def show(self, tally: Tally) -> None:
        if self._task is None:
            self._task = self._bar.add_task("starting", total=tally.planned)
        self._bar.update(self._task, completed=tally.done, description=tally.words())


class LineMonitor:
    """A line every 30 seconds, also while no shard ends, and one at the end."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._latest: Tally | None = None
        self._over = threading.Event()
        self._clock = threading.Thread(target=self._tell, name="monitor", daemon=True)

    def __enter__(self) -> LineMonitor:
        self._clock.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._clock.join()
        self._line()

    def show(self, tally: Tally) -> None:
        self._latest = tally

    def _tell(self) -> None:
        while not self._over.wait(SECONDS_BETWEEN_LINES):
            self._line()

    def _line(self) -> None:
        if self._latest is not None:
            line = f"{self._latest.done}/{self._latest.planned} done: {self._latest.words()}"
            self._console.print(line, markup=False, highlight=False, soft_wrap=True)


def monitor(console: Console) -> LiveMonitor | LineMonitor:
    """The view that fits the console."""
    return LiveMonitor(console) if console.is_terminal else LineMonitor(console)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
