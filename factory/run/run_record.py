"""Keeps the record of a run while it goes on: its log, and the state that others read."""

from __future__ import annotations

import logging
import threading
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from types import TracebackType
from typing import Any

from actors.errors import LockLostError, OutputError
from factory.output.identity import Identity
from factory.output.lock import Holder
from factory.output.shards.records import Sidecar
from factory.run.run_log import RunLog, clear_old, run_name
from factory.run.run_state import FAILED, FINISHED, RUNNING, STOPPED, RunState, write_state
from factory.run.signals import Terminated
from factory.run.tally import Tally
from factory.store.retries import Patience
from factory.store.storage import Storage

log = logging.getLogger(__name__)

SECONDS_BETWEEN_STATES = 15.0
"""The longest interval; in the first minute it is a quarter of the run's age, since people look most often then."""

PATIENCE = Patience(seconds=15.0)
"""With a store in trouble: less than for shards, since the end of a run waits for its record."""


class RunRecord:
    """Wraps a run: `begun` on entering, how it ended on leaving, and a state every 15 seconds or sooner in between.

    Nothing of it decides what is made, and no trouble with it ends a run.

    Args:
        url: the output.
        holder: of the output's lock.
        recipe: the recipe's name.
        identity: of what is made.
        tally: the run's counts; `published` adds to it.
        missing: shards that the run has to make.
        address: the cluster.
    """

    def __init__(
        self,
        url: str,
        holder: Holder,
        recipe: str,
        identity: Identity,
        tally: Tally,
        *,
        missing: int,
        address: str,
    ) -> None:
        self.storage = Storage(url, PATIENCE, run=holder.run)
        self.tally, self.missing, self.identity = tally, missing, identity
        began = datetime.now(UTC)
        self.log = RunLog(self.storage, run_name(began, uuid.uuid4().hex[:8]))
        self._about: dict[str, Any] = {
            "name": self.log.name,
            "lock": holder.run,
            "recipe": recipe,
            "digest": identity.digest,
            "host": holder.host,
            "pid": holder.pid,
            "address": address,
            "began": began.isoformat(timespec="seconds"),
        }
        self._over = threading.Event()
        self._writer = threading.Thread(target=self._write, name="record", daemon=True)

    def __enter__(self) -> RunRecord:
        try:
            clear_old(self.storage)
        except (OutputError, LockLostError, OSError) as error:
            log.warning("logs of old runs could not be deleted: %s", error)
        about = {key: value for key, value in self._about.items() if key != "lock"}
        self.log.note(
            "begun",
            **about,
            versions=dict(self.identity.versions),
            shards_missing=self.missing,
            shards_planned=self.tally.figures().total.shards,
        )
        self._state(RUNNING)
        self._writer.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._writer.join()
        figures = self.tally.figures()
        spent = {"seconds": round(figures.elapsed, 3), "shards": figures.made_shards, "items": figures.made}
        if error is None:
            total = figures.total
            phase, why = FINISHED, ""
            self.log.note(
                "finished",
                **spent,
                planned=total.planned,
                accepted=total.accepted,
                rejected=total.rejected,
                reasons=dict(total.reasons),
                unet_rows=total.unet_rows,
                images_per_second=figures.images_per_second_of_run,
                cost=figures.cost,
                cost_unit=figures.cost_unit,
            )
        elif isinstance(error, KeyboardInterrupt):
            phase, why = STOPPED, "SIGTERM" if isinstance(error, Terminated) else "Ctrl-C"
            self.log.note("stopped", by=why, **spent)
        else:
            phase, why = FAILED, str(error) or type(error).__name__
            self.log.note("failed", error=why, kind=type(error).__name__, **spent)
        self.log.flush(now=True)
        self._state(phase, why)

    def published(self, sidecar: Sidecar) -> None:
        """A shard is published: counts it."""
        self.tally.add(sidecar)
        self.log.note(
            "published",
            shard=sidecar.shard,
            accepted=sidecar.accepted,
            rejected=sidecar.rejected,
            reasons=sidecar.reasons,
            seconds=sidecar.seconds,
        )

    def resources(self, available: Mapping[str, float], *, grows: bool) -> None:
        """What the cluster has before a pass over what is missing.

        Args:
            grows: it may get more.
        """
        self.log.note("resources", **{name: available[name] for name in sorted(available) if ":" not in name})
        if not grows:
            self.tally.fit(available)

    def trouble(self, error: BaseException) -> None:
        """A pass ended early; the run goes on."""
        self.log.note("pass ended", trouble=str(error))

    def _write(self) -> None:
        while not self._over.wait(min(SECONDS_BETWEEN_STATES, max(1.0, self.tally.figures().elapsed / 4))):
            self._state(RUNNING)
            self.log.flush()

    def _state(self, phase: str, why: str = "") -> None:
        state = RunState(
            **self._about,
            written=datetime.now(UTC).isoformat(timespec="seconds"),
            phase=phase,
            why=why,
            figures=self.tally.figures(),
        )
        try:
            write_state(self.storage, state)
        except (OutputError, LockLostError, OSError) as error:
            log.warning("the state of the run could not be written, `status` will lag behind: %s", error)
