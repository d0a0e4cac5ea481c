"""Checkpoints of a training in its output: tensors as safetensors, everything else as JSON, no pickle.

`checkpoints/NNNNNN.*.safetensors` hold the state after that many steps, and `checkpoints/NNNNNN.json`, which is written
last, commits it. The lines of the log since the checkpoint before are part of a checkpoint, so that the log and the
state are always of one history.
"""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load, save_file
from torch import Tensor

from actors.errors import OutputError
from factory.output.shards.records import FileRecord
from factory.store.storage import Storage

FOLDER = "checkpoints"
_STATE = re.compile(r"(\d{6,9})\.json")
_FILE = re.compile(r"(\d{6,9})\.(json|\w+\.safetensors)")


class Best(BaseModel):
    """The best validation so far.

    Attributes:
        step: number of steps after which it was made; there is a checkpoint of that step.
        value: its score, the larger the better.
        threshold: chosen there; None for tasks without one.
        figures: of the validation.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    step: int
    value: float
    threshold: float | None
    figures: dict[str, float]


class State(BaseModel):
    """The content of `checkpoints/NNNNNN.json`.

    Attributes:
        step: number of steps done.
        digest: of the training: recipe, data and weights that it began with.
        best: None without a validation.
        since_best: validations since then.
        skipped: bad samples so far, by data set.
        log: files with the lines of the log so far, in order.
        samples: files with the samples read so far, where the recipe logs them.
        files: size and hash of the files of this checkpoint by name.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    step: int
    digest: str
    best: Best | None
    since_best: int
    skipped: dict[str, int]
    log: list[Annotated[str, Field(pattern=r"^log/\d{6,9}\.jsonl$")]]
    samples: list[Annotated[str, Field(pattern=r"^samples/\d{6,9}-\d{4}\.jsonl$")]]
    files: dict[str, FileRecord]


def steps_of(storage: Storage) -> list[int]:
    """Steps of the committed checkpoints, rising."""
    return sorted(int(match[1]) for name in storage.names(FOLDER) if (match := _STATE.fullmatch(name)))


def read_state(storage: Storage, step: int) -> State:
    """The state of a committed checkpoint.

    Raises:
        OutputError: it is missing or damaged.
    """
    path = _state_path(step)
    advice = "delete it to go on from the checkpoint before it"
    try:
        state = State.model_validate_json(storage.read(path))
    except ValidationError as error:
        where = ".".join(map(str, error.errors()[0]["loc"]))
        raise OutputError(
            f"{storage.url}: {path} is damaged: {where + ': ' if where else ''}{error.errors()[0]['msg']}; {advice}"
        ) from error
    if state.step != step:
        raise OutputError(f"{storage.url}: {path} is damaged: it is of step {state.step:,}; {advice}")
    return state


def write_tensors(storage: Storage, step: int, name: str, tensors: Mapping[str, Tensor]) -> FileRecord:
    """Write tensors (`model`, `optimizer` or `ema`) of a checkpoint that is not committed yet."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "tensors"
        save_file(dict(tensors), file)
        with file.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        record = FileRecord(bytes=file.stat().st_size, sha256=digest)
        storage.settle(_tensors_path(step, name), file)
    return record


def read_tensors(storage: Storage, state: State, name: str) -> dict[str, Tensor]:
    """The tensors of a file of a committed checkpoint.

    Raises:
        OutputError: it is missing, damaged, or not the file that was committed.
    """
    path = _tensors_path(state.step, name)
    advice = f"delete {_state_path(state.step)} to go on from the checkpoint before it"
    record = state.files.get(name)
    if record is None:
        raise OutputError(f"{storage.url}: the checkpoint of step {state.step:,} has no {name}; {advice}")
    data = storage.read(path)
    if len(data) != record.bytes or hashlib.sha256(data).hexdigest() != record.sha256:
        raise OutputError(
            f"{storage.url}: {path} is not the file that was written ({len(data):,} of {record.bytes:,} bytes); "
            f"{advice}"
        )
    try:
        tensors: dict[str, Tensor] = load(data)
        return tensors
    except SafetensorError as error:
        raise OutputError(f"{storage.url}: {path} is damaged: {error}; {advice}") from error


def commit(storage: Storage, state: State) -> None:
    """Commit a checkpoint whose files are written."""
    storage.settle(_state_path(state.step), state.model_dump_json(indent=1).encode())


def prune(storage: Storage, state: State, *, keep: int) -> None:
    """Delete all checkpoints but the last `keep` and that of the best validation, and what killed runs left of others.

    The files of a checkpoint that commit it go first.
    """
    kept = {*steps_of(storage)[-keep:], *([state.best.step] if state.best else [])}
    files = [match for name in storage.names(FOLDER) if (match := _FILE.fullmatch(name))]
    for match in sorted(files, key=lambda match: match[2] != "json"):
        if int(match[1]) not in kept:
            storage.remove(f"{FOLDER}/{match[0]}")


def _state_path(step: int) -> str:
    return f"{FOLDER}/{step:06d}.json"


def _tensors_path(step: int, name: str) -> str:
    return f"{FOLDER}/{step:06d}.{name}.safetensors"


def write_lines(storage: Storage, path: str, lines: Sequence[Mapping[str, Any]]) -> str:
    """Write lines of JSON; returns the path."""
    storage.settle(path, b"".join(json.dumps(line).encode() + b"\n" for line in lines))
    return path


def read_lines(storage: Storage, paths: Sequence[str]) -> bytes:
    """The lines of several files, one after the other.

    Raises:
        OutputError: a file is missing or damaged.
    """
    parts = []
    for path in paths:
        parts.append(storage.read(path))
        try:
            whole = parts[-1].endswith(b"\n") and all(
                isinstance(json.loads(line), dict) for line in parts[-1].splitlines()
            )
        except (ValueError, RecursionError):
            whole = False
        if not whole:
            raise OutputError(
                f"{storage.url}: {path} is damaged; delete the checkpoints from that step on, in {FOLDER}/, to go on "
                "from the one before"
            )
    return b"".join(parts)
