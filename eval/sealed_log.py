"""The log of every opening of sealed images: how often somebody looked, at what, and what was found.

The default is one file per user, `$XDG_STATE_HOME/flawforge/sealed-openings.jsonl` (`~/.local/state` where the variable
is not set). A log beside the results or the checkpoint would be lost with them: folders of results are deleted and made
again, an evaluation without `--out` has none, and shipped checkpoints cannot be written to. What has to be known is how
often the same sealed images were opened over all checkpoints and folders, and a file of the user is the one place that
sees all of that. `--log` names another file, such as one that is kept under version control beside published results.

An opening has two lines of JSON. The first is written before the first sealed image is read, and shows that the log can
be written; the second, with the figures, before they are shown. So an opening that ended in between is in the log, too.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from actors.errors import OutputError

NAME = "sealed-openings.jsonl"
SEALED = "sealed"
"""Name of a split, and of any folder whose tars count as sealed."""


@dataclass(frozen=True)
class Opening:
    """An opening whose first line is written.

    Attributes:
        log: the file.
        number: of this opening among those of the same data in the log, from 1 on.
        about: what both lines state, the unique name of the opening included.
    """

    log: Path
    number: int
    about: Mapping[str, object]

    def add_figures(self, figures: Mapping[str, object]) -> None:
        """Write the second line; raises OutputError where that fails."""
        _append(self.log, {"event": "figures", "date": _now(), **self.about, **figures})


def is_sealed(tars: Sequence[str]) -> bool:
    """Whether any of the tars lies in a folder with the name `sealed`."""
    return any(url.rstrip("/").split("/")[-2:-1] == [SEALED] for url in tars)


def default_log() -> Path:
    """The file of this user. The XDG rules make a relative `XDG_STATE_HOME` count as unset."""
    state = Path(os.environ.get("XDG_STATE_HOME", ""))
    folder = state if state.is_absolute() else Path.home() / ".local" / "state"
    return folder / "flawforge" / NAME


def open_sealed(log: Path, *, data: str, about: Mapping[str, object]) -> Opening:
    """Write the first line of an opening.

    Args:
        log: a file of this machine; its folder is created.
        data: what is opened, such as the split with its version.
        about: what else both lines hold: command, checkpoint, versions.

    Raises:
        OutputError: the line cannot be written; nothing sealed may be read then.
    """
    lasting = {"opening": uuid.uuid4().hex[:12], "data": data, **about}
    earlier = sum(line.get("event") == "opened" and line.get("data") == data for line in openings(log))
    _append(log, {"event": "opened", "date": _now(), **lasting})
    return Opening(log, earlier + 1, lasting)


def openings(log: Path) -> list[dict[str, object]]:
    """The lines of a log that are JSON objects, in their order; none where there is no such file.

    Raises:
        OutputError: the file cannot be read.
    """
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise _refused(log, error) from error
    return [document for line in lines if (document := _parsed(line)) is not None]


def _parsed(line: str) -> dict[str, object] | None:
    try:
        document = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def _append(log: Path, line: Mapping[str, object]) -> None:
    data = json.dumps(line, sort_keys=True).encode() + b"\n"
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab+") as stream:
            end = stream.seek(0, os.SEEK_END)
            if end:
                stream.seek(end - 1)
                data = data if stream.read(1) == b"\n" else b"\n" + data  # of a line that was cut off
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        raise _refused(log, error) from error


def _refused(log: Path, error: OSError) -> OutputError:
    return OutputError(
        f"{log}: the log of sealed openings cannot be written ({error.strerror or error}), so the sealed images stay "
        "closed; make it writable, or name another file with --log"
    )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
