"""The output of `flawforge status` for a training."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from rich.console import Console

from factory.output.lock import Holder, read_holder
from factory.run.status import AT_WORK, SILENT, age_of, lives
from factory.run.tally import clock
from factory.store.storage import Storage
from flawforge.commands.printing import print_json, say
from flawforge.commands.train import words
from train import progress
from train.identity import TrainingIdentity, read_training
from train.progress import Progress
from train.trained import is_finished

FINISHED, NOT_FINISHED = "finished", "not finished"


@dataclass(frozen=True)
class TrainingSight:
    """A training at one moment.

    Attributes:
        identity: what is trained.
        progress: as it was written last; None before the first step.
        holder: of the lock; None if it is free.
        finished: whether the result is written.
        at: moment of the look.
    """

    identity: TrainingIdentity
    progress: Progress | None
    holder: Holder | None
    finished: bool
    at: datetime

    @property
    def state(self) -> str:
        """`finished`, `at work`, `silent` (a lock without a heartbeat: killed, or cut off), or `not finished`."""
        if self.finished:
            return FINISHED
        if self.holder is None:
            return NOT_FINISHED
        return AT_WORK if lives(self.holder, self.at) else SILENT

    @property
    def document(self) -> dict[str, Any]:
        """All figures as plain data."""
        return {
            "name": self.identity.name,
            "state": self.state,
            "data": [one.model_dump() for one in self.identity.data],
            "progress": self.progress.document if self.progress else None,
            "lock": asdict(self.holder) if self.holder else None,
            "seconds_since_heartbeat": age_of(self.holder.heartbeat, self.at) if self.holder else None,
        }

    @property
    def lines(self) -> Iterator[str]:
        """The figures as lines of text."""
        yield f"{self.state}: the training {self.identity.name}"
        for one in self.identity.data:
            yield f"data {one.name}: {one.samples:,} samples of {one.url}, label {one.label}"
        if self.progress is not None:
            yield words(self.progress)
            if self.state != FINISHED:
                yield f"checkpoint: step {self.progress.checkpoint:,}"
            if self.progress.trouble:
                yield self.progress.trouble
        if self.holder is not None and self.state != FINISHED:
            ago = clock(age_of(self.holder.heartbeat, self.at))
            yield f"run: process {self.holder.pid} on {self.holder.host}, last heartbeat {ago} ago"
        if self.state == SILENT:
            yield "no heartbeat: the run was killed or is cut off; the same command takes over and continues"
        if self.state == NOT_FINISHED:
            last = self.progress
            end = f"; the last one {last.phase}: {last.why}" if last and last.why else ""
            yield f"no run is at work{end}; the same command continues"


def look(storage: Storage) -> TrainingSight:
    """Look at the output of a training.

    Raises:
        OutputError: it is damaged, or the storage refuses.
    """
    finished = is_finished(storage)
    return TrainingSight(
        read_training(storage), progress.read(storage), read_holder(storage), finished, datetime.now(UTC)
    )


def show(console: Console, storage: Storage, *, as_json: bool = False, every: float | None = None) -> None:
    """Print the progress once, or repeatedly until the training is finished."""
    while True:
        sight = look(storage)
        if as_json and every is None:
            print_json(sight.document)
        elif as_json:
            print(json.dumps(sight.document), flush=True)
        else:
            for line in sight.lines:
                say(console, line)
        if every is None or sight.state == FINISHED:
            return
        time.sleep(every)
