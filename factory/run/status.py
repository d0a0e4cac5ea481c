"""The status of an output, readable from any machine: its progress, whether a run is at work on it, and its speed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime

from factory.output.lock import PATIENCE, Holder, read_holder
from factory.output.manifest import Progress, done_shards, progress, read_sidecars
from factory.output.plan import read_plan
from factory.run.run_log import log_path
from factory.run.run_state import RunState, read_state
from factory.store.storage import Storage

COMPLETE, AT_WORK, SILENT, NOT_COMPLETE = "complete", "at work", "silent", "not complete"


@dataclass(frozen=True)
class Sight:
    """The status of an output at one moment.

    Attributes:
        total: counts of the whole output; `done` is that of the moment of the look.
        behind: published shards that the other counts do not include yet; the run adds them within 15 seconds.
        holder: of the lock; None if it is free.
        run: the newest run, in the state that it wrote last; None if no run is known.
        at: moment of the look.
    """

    total: Progress
    behind: int
    holder: Holder | None
    run: RunState | None
    at: datetime

    @property
    def state(self) -> str:
        """`complete`, `at work`, `silent` (a lock without a heartbeat: killed, or cut off), or `not complete`."""
        if self.total.complete and not self.behind:
            return COMPLETE
        if self.holder is None:
            return NOT_COMPLETE
        return AT_WORK if lives(self.holder, self.at) else SILENT

    @property
    def present(self) -> RunState | None:
        """The run that holds the lock, as far as it has written of itself."""
        if self.run is None or self.holder is None or self.run.lock != self.holder.run:
            return None
        return self.run

    @property
    def log(self) -> str | None:
        """Where the log of the newest run lies in the output."""
        return log_path(self.run.name) if self.run else None

    def age(self, moment: str) -> float:
        """Seconds since a moment, by the clock here, which may differ from that of the run."""
        return age_of(moment, self.at)


def look(storage: Storage) -> Sight:
    """Looks at an output.

    Reads the plan's head, the lock, the newest run's state, and lists `stats/`. Only where no run reports the counts,
    all sidecars are read: of outputs that were merged, or made by earlier versions, or whose last run was killed.

    Raises:
        OutputError: there is no plan, or it is damaged, or the storage refuses.
    """
    plan = read_plan(storage)
    holder, run = read_holder(storage), read_state(storage)
    done = done_shards(storage)
    known = run.figures.total if run else None
    at = datetime.now(UTC)
    going_on = run is not None and holder is not None and run.lock == holder.run and lives(holder, at)
    if (
        known is not None
        and (known.planned, known.shards) == (plan.items, plan.shards)
        and (known.done == len(done) or (going_on and known.done < len(done)))
    ):
        total, behind = replace(known, done=len(done)), len(done) - known.done
    else:
        total, behind = progress(plan, read_sidecars(storage)), 0
    return Sight(total, behind, holder, run, at)


def lives(holder: Holder, at: datetime) -> bool:
    """Whether the run that holds a lock shows signs of life at a moment."""
    return not holder.gone and age_of(holder.heartbeat, at) <= PATIENCE


def age_of(moment: str, at: datetime) -> float:
    """Seconds since a moment; zero where it is later, since clocks differ."""
    return max(0.0, (at - datetime.fromisoformat(moment)).total_seconds())
