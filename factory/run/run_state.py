"""The state that a run reports to other machines: `OUT/runs/NAME.json`, replaced every few seconds."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from actors.errors import OutputError
from factory.output.layout import RUNS
from factory.output.manifest import Progress
from factory.run.run_log import state_path
from factory.run.tally import Figures
from factory.store.storage import Storage

RUNNING, FINISHED, STOPPED, FAILED = "running", "finished", "stopped", "failed"


@dataclass(frozen=True)
class RunState:
    """A run and its figures when it last wrote them.

    Attributes:
        name: of the run's files in `runs/`.
        lock: name of the run in `lock.json`, while it holds the lock.
        recipe, digest: the recipe's name, and the digest of what it makes.
        host, pid, address: the driver, and the cluster that it works on.
        began, written: UTC.
        phase: `running`, `finished`, `stopped` or `failed`; a run that was killed stays `running`.
        why: what ended it, where it is not finished.
        figures: as they were at `written`.
    """

    name: str
    lock: str
    recipe: str
    digest: str
    host: str
    pid: int
    address: str
    began: str
    written: str
    phase: str
    why: str
    figures: Figures

    @property
    def document(self) -> dict[str, Any]:
        return asdict(self)


def write_state(storage: Storage, state: RunState) -> None:
    storage.replace(state_path(state.name), json.dumps(state.document, indent=1).encode())


def read_state(storage: Storage) -> RunState | None:
    """The state of the newest run; None where there is none, or none that this version understands."""
    names = [name for name in storage.names(RUNS) if name.endswith(".json")]
    if not names:
        return None
    try:
        return _parse(json.loads(storage.read(f"{RUNS}/{names[-1]}")))
    except (OutputError, ValueError, TypeError, KeyError):
        return None


def _parse(document: Mapping[str, Any]) -> RunState:
    figures = dict(document["figures"])
    total = Progress(**figures.pop("total"))
    return RunState(**{**document, "figures": Figures(total=total, **figures)})
