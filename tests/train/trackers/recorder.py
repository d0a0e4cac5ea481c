"""A tracker that keeps what it gets, and fails on demand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from train.trackers.tracked_run import Figures, TrackedRun


@dataclass
class Recorder:
    """Opens itself.

    Attributes:
        failing: calls that raise, by name, with how often they do.
        opened: the runs that began.
        rows: figures so far.
        ends: what `finish` got.
    """

    failing: dict[str, int] = field(default_factory=dict)
    opened: list[TrackedRun] = field(default_factory=list)
    rows: list[Figures] = field(default_factory=list)
    ends: list[bool] = field(default_factory=list)

    def __call__(self, run: TrackedRun) -> Recorder:
        self._fail("open")
        self.opened.append(run)
        return self

    def log(self, rows: Sequence[Figures]) -> None:
        self._fail("log")
        self.rows.extend(rows)

    def finish(self, *, failed: bool) -> None:
        self._fail("finish")
        self.ends.append(failed)

    def _fail(self, name: str) -> None:
        if self.failing.get(name, 0):
            self.failing[name] -= 1
            raise ConnectionError(f"no answer to {name} from https://user:5ecret@host/api?token=5ecret")

    @property
    def values(self) -> dict[int, Any]:
        """Figures by step; every step came once, and they rose."""
        steps = [row.step for row in self.rows]
        assert steps == sorted(set(steps))
        return {row.step: dict(row.values) for row in self.rows}
