"""How far a training is, in `progress.json` of its output: for the driver's view and for `flawforge status`."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from pydantic import TypeAdapter, ValidationError

from actors.errors import OutputError
from factory.store.storage import Storage

PATH = "progress.json"
RUNNING, FINISHED, FAILED, STOPPED = "running", "finished", "failed", "stopped"

_LOCAL, _REMOTE = 1.0, 10.0
"""Seconds between two writes."""


@dataclass(frozen=True)
class Progress:
    """The state of a training.

    Attributes:
        phase: `running`, `finished`, `stopped` or `failed`; one that was killed stays `running`.
        step, iterations: steps done, and in all.
        loss, rate: of the latest step.
        images_per_second: of all workers, recently.
        seconds_left: at that pace; None while it is not known.
        waited: share of the time in which worker 0 waited for data, recently.
        workers: their number.
        checkpoint: step of the latest checkpoint; 0 before the first.
        validation: figures of the best validation; empty before the first.
        best: step of that validation.
        skipped: bad samples, by data set.
        restarts: of the workers, after they were lost.
        written: UTC.
        why: what ended it, where it is not finished.
        trouble: with the experiment trackers, which does not end a training; empty if there was none.
    """

    phase: str
    step: int
    iterations: int
    loss: float | None = None
    rate: float | None = None
    images_per_second: float | None = None
    seconds_left: float | None = None
    waited: float | None = None
    workers: int = 0
    checkpoint: int = 0
    validation: dict[str, float] | None = None
    best: int | None = None
    skipped: dict[str, int] | None = None
    restarts: int = 0
    written: str = ""
    why: str = ""
    trouble: str = ""

    @property
    def document(self) -> dict[str, Any]:
        return asdict(self)


_PROGRESS: TypeAdapter[Progress] = TypeAdapter(Progress)


class ProgressFile:
    """Writes the progress now and then.

    Args:
        storage: the output.
    """

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._pause = _REMOTE if storage.local is None else _LOCAL
        self._latest = 0.0

    @property
    def due(self) -> bool:
        """Whether it is time for another write."""
        return time.monotonic() - self._latest >= self._pause

    def write(self, progress: Progress) -> None:
        """Write it; trouble with the store does not end a training."""
        self._latest = time.monotonic()
        write(self._storage, progress)


def write(storage: Storage, progress: Progress) -> None:
    """Replace `progress.json`, as far as the store lets us."""
    stamped = {**progress.document, "written": datetime.now(UTC).isoformat(timespec="seconds")}
    try:
        storage.replace(PATH, json.dumps(stamped, indent=1).encode())
    except OutputError:
        return


def read(storage: Storage) -> Progress | None:
    """The latest progress; None where there is none that this version understands."""
    try:
        return _PROGRESS.validate_json(storage.read(PATH), strict=True)
    except (OutputError, ValidationError):
        return None
