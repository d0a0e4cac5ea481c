"""Counts, speeds and costs of a run while it goes on."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from actors.stage_names import StageName
from factory.output.manifest import Progress, count_hardware
from factory.output.shards.records import Sidecar
from factory.recipe.sections import Pool

WINDOW = 60.0
"""Seconds that the recent speed looks back at least."""

PUBLISHES = 8
"""Shards that the recent speed looks back at least; more where more workers end at the same time."""


@dataclass(frozen=True)
class Figures:
    """A run at one moment. What is not known yet is None.

    Attributes:
        total: counts of the whole output, earlier runs included.
        elapsed: seconds since this run began.
        made, made_accepted, made_shards: items, accepted items and shards of this run.
        images_per_second: recent; see `Tally.figures`.
        images_per_second_of_run: since the run began, start-up included.
        seconds_left: for the items that are not done, at the recent speed.
        busy: share of the time, 0..1, for which the workers of a stage worked, by stage.
        cost: seconds of work for an accepted sample of this run, in `cost_unit`.
        cost_unit: `GPU-seconds`, or `worker-seconds` where no stage has a GPU.
        last_published: UTC, for people.
        in_flight: items of unpublished shards that have finished a step, by step; see `factory.pipeline.in_flight`.
    """

    total: Progress
    elapsed: float
    made: int
    made_accepted: int
    made_shards: int
    images_per_second: float | None
    images_per_second_of_run: float | None
    seconds_left: float | None
    busy: Mapping[str, float]
    cost: float | None
    cost_unit: str
    last_published: str | None
    in_flight: Mapping[str, int] = field(default_factory=dict)

    def words(self) -> str:
        """`351 accepted (91%), 3.12 images/s, 0:41 left; busy: load 2%, corrupt 97%; ...; rejects: unchanged 30`."""
        accepted, rejected = self.total.accepted, self.total.rejected
        rate = f"{accepted / (accepted + rejected):.0%}" if accepted + rejected else "-"
        parts = [f"{accepted:,} accepted ({rate})"]
        if not self.total.complete and not self.made_shards:
            state = "no shard yet" if self.in_flight else "starting, no shard yet"
            parts[0] += f"; {state}, {clock(self.elapsed)}"
        if self.images_per_second is not None:
            left = "?" if self.seconds_left is None else clock(self.seconds_left)
            parts[0] += f", {pace(self.images_per_second)} images/s, {left} left"
        if self.in_flight:
            parts.append("in progress: " + amounts(self.in_flight))
        if self.busy:
            parts.append("busy: " + shares(self.busy))
        if self.cost is not None:
            parts.append(f"{self.cost:.2f} {self.cost_unit} per accepted")
        top = ", ".join(f"{reason} {count:,}" for reason, count in Counter(self.total.reasons).most_common(3))
        if top:
            parts.append(f"rejects: {top}")
        return "; ".join(parts)


class Tally:
    """Counts of a run so far. One thread adds, any may look.

    Args:
        existing: what earlier runs have made of the same plan.
        pools: by stage, for the figures of stages, which are missing without them.
    """

    def __init__(self, existing: Progress, pools: Mapping[StageName, Pool] | None = None) -> None:
        self._existing = existing
        self._items = self._accepted = self._shards = 0
        self._total = existing
        self._seconds: Counter[str] = Counter()
        # A sidecar is published by the writer, before the writer's own seconds are known.
        self._pools = {name: pool for name, pool in (pools or {}).items() if name is not StageName.WRITE}
        self._workers = {name: pool.largest for name, pool in self._pools.items()}
        self._began = time.monotonic()
        self._work_began: float | None = None
        self._marks: deque[tuple[float, int]] = deque()
        self._last_published: str | None = None
        self._in_flight: Mapping[str, int] = {}
        self._lock = threading.Lock()

    @property
    def planned(self) -> int:
        """Items of the whole plan."""
        return self._existing.planned

    @property
    def done(self) -> int:
        """Items that are done, earlier runs included."""
        return self._total.accepted + self._total.rejected

    def fit(self, resources: Mapping[str, float]) -> None:
        """Takes note of what a cluster that does not grow has: no pool gets larger than it can hold."""
        for name, pool in self._pools.items():
            room = resources.get("CPU", 0.0) / pool.cpus
            if pool.gpus:
                room = min(room, resources.get("GPU", 0.0) / pool.gpus)
            self._workers[name] = max(1, min(pool.largest, int(room)))

    def in_flight(self, counts: Mapping[str, int]) -> None:
        """Sets how many items of unpublished shards have finished a step, by step."""
        self._in_flight = dict(counts)

    def add(self, sidecar: Sidecar) -> None:
        """Counts a shard that was published."""
        with self._lock:
            now = time.monotonic()
            if self._work_began is None:
                self._work_began = now - sum(sidecar.seconds.values())
            total = self._total
            seconds = Counter(total.seconds)
            seconds.update(sidecar.seconds)
            self._seconds.update(sidecar.seconds)
            self._total = replace(
                total,
                accepted=total.accepted + sidecar.accepted,
                rejected=total.rejected + sidecar.rejected,
                unverified=total.unverified + sidecar.unverified,
                done=total.done + 1,
                reasons=dict((Counter(total.reasons) + Counter(sidecar.reasons)).most_common()),
                unet_rows=total.unet_rows + sidecar.unet_rows,
                seconds=dict(seconds),
                hardware=count_hardware(total.hardware, [sidecar]),
            )
            self._items += sidecar.planned
            self._accepted += sidecar.accepted
            self._shards += 1
            self._marks.append((now, self._items))
            self._last_published = datetime.now(UTC).isoformat(timespec="seconds")

    def figures(self) -> Figures:
        """The figures of this moment.

        The recent speed counts the items that came after a shard was published, by the time since: the newest shard
        that is older than `WINDOW` and has `PUBLISHES` shards after it, else the first. So it knows nothing of the
        start of the run. With a single shard it is that of the run.

        A stage is busy for the seconds that its workers took for the shards that this run has published, divided by
        the time since work on the first of them began, and by the workers that its pool may have.
        """
        with self._lock:
            now = time.monotonic()
            elapsed = max(now - self._began, 1e-9)
            of_run = self._items / elapsed if self._items else None
            speed = self._recent(now) or of_run
            left = max(0, self.planned - self.done)
            unit, cost = self._cost()
            return Figures(
                total=self._total,
                elapsed=elapsed,
                made=self._items,
                made_accepted=self._accepted,
                made_shards=self._shards,
                images_per_second=speed,
                images_per_second_of_run=of_run,
                seconds_left=left / speed if speed else None,
                busy=self._busy(now),
                cost=cost / self._accepted if self._accepted and self._pools else None,
                cost_unit=unit,
                last_published=self._last_published,
                in_flight=self._in_flight,
            )

    def _recent(self, now: float) -> float:
        """Items per second; zero where it cannot be measured."""
        least = max(PUBLISHES, 2 * max(self._workers.values(), default=1))
        while len(self._marks) > least + 1 and now - self._marks[1][0] >= WINDOW:
            self._marks.popleft()
        if len(self._marks) < 2:
            return 0.0
        began, before = self._marks[0]
        return (self._items - before) / max(now - began, 1e-9)

    def _busy(self, now: float) -> dict[str, float]:
        if self._work_began is None:
            return {}
        wall = max(now - self._work_began, 1e-9)
        return {
            str(name): min(1.0, self._seconds[name] / (wall * workers))
            for name, workers in self._workers.items()
        }

    def _cost(self) -> tuple[str, float]:
        """The unit, and how much of it this run's published shards took."""
        if any(pool.gpus for pool in self._pools.values()):
            return "GPU-seconds", sum(self._seconds[name] * pool.gpus for name, pool in self._pools.items())
        return "worker-seconds", sum(self._seconds.values())


def clock(seconds: float) -> str:
    """`0:42`, `1:02:03`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def pace(per_second: float) -> str:
    """`0.12`, `31.4`: slow speeds more exactly."""
    return f"{per_second:.2f}" if per_second < 10 else f"{per_second:,.1f}"


def shares(busy: Mapping[str, float]) -> str:
    """`load 3%, corrupt 97%`."""
    return ", ".join(f"{stage} {share:.0%}" for stage, share in busy.items())


def amounts(items: Mapping[str, int]) -> str:
    """`load 1,280, invert 16`."""
    return ", ".join(f"{step} {count:,}" for step, count in items.items())
