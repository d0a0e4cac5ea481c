"""What a person sees while a run goes on: a live view on a terminal, otherwise a line every 30 seconds."""

from __future__ import annotations

import threading
import time

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.text import Text

from actors.foreign_text import one_line
from factory.run.tally import Tally, clock

SECONDS_BETWEEN_LINES = 30.0


class LiveMonitor:
    """A bar with the figures below it, redrawn also while no shard ends."""

    def __init__(self, console: Console) -> None:
        self._latest: Tally | None = None
        self._began = time.monotonic()
        self._live = Live(console=console, get_renderable=self._view, refresh_per_second=2)

    def __enter__(self) -> LiveMonitor:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def show(self, tally: Tally) -> None:
        self._latest = tally

    def _view(self) -> Group | Text:
        if self._latest is None:
            return Text(f"starting, {clock(time.monotonic() - self._began)}")
        figures = self._latest.figures()
        done, planned = self._latest.done, self._latest.planned
        head, *rest = figures.words().split("; ")
        return Group(
            ProgressBar(total=planned, completed=done, width=40),
            Text(one_line(f"{done:,}/{planned:,} done: {head}")),
            *(Text(one_line(f"  {line}")) for line in rest),
        )


class LineMonitor:
    """A line every 30 seconds, when a step has finished its first items, and at the end."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._latest: Tally | None = None
        self._began = time.monotonic()
        self._over = threading.Event()
        self._clock = threading.Thread(target=self._report, name="monitor", daemon=True)

    def __enter__(self) -> LineMonitor:
        self._clock.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._clock.join()
        if self._latest is not None:
            self._line()

    def show(self, tally: Tally) -> None:
        self._latest = tally

    def _report(self) -> None:
        look, waited = min(1.0, SECONDS_BETWEEN_LINES), 0.0
        steps: set[str] = set()
        while not self._over.wait(look):
            waited += look
            counted = set() if self._latest is None else self._latest.figures().in_flight.keys()
            if waited >= SECONDS_BETWEEN_LINES or not counted <= steps:
                steps |= counted
                waited = 0.0
                self._line()

    def _line(self) -> None:
        if self._latest is None:
            line = f"starting, {clock(time.monotonic() - self._began)}"
        else:
            figures = self._latest.figures()
            line = f"{self._latest.done:,}/{self._latest.planned:,} done: {figures.words()}"
        self._console.print(one_line(line), markup=False, highlight=False, soft_wrap=True)


def monitor(console: Console) -> LiveMonitor | LineMonitor:
    """The view that fits the console."""
    return LiveMonitor(console) if console.is_terminal else LineMonitor(console)
