"""Checkpoints: what is written comes back, and damaged ones are refused."""

from __future__ import annotations

import hashlib
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from actors.errors import OutputError
from factory.store.storage import Storage
from train import checkpoint
from train.checkpoint import Best, State, commit, prune, read_lines, read_state, read_tensors, steps_of

TENSORS = {
    "a.weight": torch.arange(6.0).view(2, 3),
    "n": torch.tensor(7),
    "half": torch.ones(2, dtype=torch.bfloat16),
}


def saved(storage: Storage, step: int, *, best: int | None = None) -> State:
    files = {name: checkpoint.write_tensors(storage, step, name, TENSORS) for name in ("model", "optimizer")}
    log = checkpoint.write_lines(storage, f"log/{step:06d}.jsonl", [{"step": step, "loss": 0.5}])
    state = State(
        step=step,
        digest="d" * 64,
        best=Best(step=best, value=0.5, threshold=0.3, figures={"iou_fg": 0.5}) if best else None,
        since_best=1,
        skipped={"x": 2},
        log=[log],
        samples=[],
        files=files,
    )
    commit(storage, state)
    return state


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(str(tmp_path))


def test_what_is_written_comes_back(storage: Storage) -> None:
    state = saved(storage, 12, best=12)
    assert steps_of(storage) == [12] and read_state(storage, 12) == state
    tensors = read_tensors(storage, state, "model")
    assert tensors.keys() == TENSORS.keys()
    for name, value in tensors.items():
        assert value.dtype == TENSORS[name].dtype and torch.equal(value, TENSORS[name])
    assert read_lines(storage, state.log) == b'{"step": 12, "loss": 0.5}\n'


def test_uncommitted_and_foreign_files_are_no_checkpoints(storage: Storage, tmp_path: Path) -> None:
    assert steps_of(storage) == []
    checkpoint.write_tensors(storage, 5, "model", TENSORS)
    for name in ("1.json", "000001.json.tmp", "000002.yaml", "notes.json", ".000003.json"):
        (tmp_path / "checkpoints" / name).write_text("{}")
    assert steps_of(storage) == []
    saved(storage, 1_000_000)
    saved(storage, 7)
    assert steps_of(storage) == [7, 1_000_000]


def test_pruning(storage: Storage, tmp_path: Path) -> None:
    for step in (1, 2, 3, 4):
        saved(storage, step)
    (tmp_path / "checkpoints/000003.json").write_text("damaged")
    (tmp_path / "checkpoints/notes.txt").write_text("mine")
    last = saved(storage, 5, best=2)
    checkpoint.write_tensors(storage, 1, "ema", TENSORS)  # of a run that was killed
    prune(storage, last, keep=1)
    assert steps_of(storage) == [2, 5]
    kept = {
        f"{step:06d}.{end}"
        for step in (2, 5)
        for end in ("json", "model.safetensors", "optimizer.safetensors")
    }
    assert {path.name for path in (tmp_path / "checkpoints").iterdir()} == {*kept, "notes.txt"}


def test_a_checkpoint_loses_its_commit_before_its_tensors(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    for step in (1, 2):
        last = saved(storage, step)
    removed: list[str] = []
    monkeypatch.setattr(storage, "remove", removed.append)
    prune(storage, last, keep=1)
    assert removed[0] == "checkpoints/000001.json" and len(removed) == 3


def cut(data: bytes) -> bytes:
    return data[:-5]


def flip(data: bytes) -> bytes:
    middle = len(data) - 3
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


@pytest.mark.parametrize("damage", [cut, flip, lambda data: b"", lambda data: data + b"x"])
def test_damaged_tensors(storage: Storage, tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    state = saved(storage, 12)
    path = tmp_path / "checkpoints/000012.model.safetensors"
    path.write_bytes(damage(path.read_bytes()))
    words = (
        rf"{tmp_path}: checkpoints/000012.model.safetensors is not the file that was written "
        r"\([\d,]+ of 2\d\d bytes\); delete checkpoints/000012.json to go on from the checkpoint before it"
    )
    with pytest.raises(OutputError, match=words):
        read_tensors(storage, state, "model")


def test_missing_tensors(storage: Storage, tmp_path: Path) -> None:
    state = saved(storage, 12)
    with pytest.raises(
        OutputError, match=r"the checkpoint of step 12 has no ema; delete checkpoints/000012.json"
    ):
        read_tensors(storage, state, "ema")
    (tmp_path / "checkpoints/000012.model.safetensors").unlink()
    with pytest.raises(OutputError, match=r"checkpoints/000012.model.safetensors is missing"):
        read_tensors(storage, state, "model")


class Danger:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path("/nonexistent").mkdir, ())


def test_no_pickle_is_ever_read(storage: Storage, tmp_path: Path) -> None:
    """A pickle with a matching hash is no safetensors; one beside the tensors is not looked at."""
    state = saved(storage, 12)
    for data in (pickle.dumps(Danger()), b"\xff" * 100, b"\x10" + bytes(7) + b"[" * 16):
        (tmp_path / "data").write_bytes(data)
        storage.settle("checkpoints/000012.model.safetensors", tmp_path / "data")
        record = state.files["model"].model_copy(
            update={"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        )
        forged = state.model_copy(update={"files": {"model": record}})
        with pytest.raises(
            OutputError, match=r"000012.model.safetensors is damaged: .*; delete checkpoints/0"
        ):
            read_tensors(storage, forged, "model")
    (tmp_path / "checkpoints/000012.model.bin").write_bytes(pickle.dumps(Danger()))
    saved(storage, 12)
    assert read_tensors(storage, state, "model").keys() == TENSORS.keys()


def changed(**values: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda document: {**document, **values}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (changed(step="12"), "step: Input should be a valid integer"),
        (changed(step=13), "it is of step 13"),
        (changed(format=2), "format: Extra inputs are not permitted"),
        (
            lambda document: {name: value for name, value in document.items() if name != "files"},
            "files: Field req",
        ),
        (changed(best={"step": 1}), "best.value: Field required"),
        (changed(files={"model": {"bytes": -1}}), r"files.model"),
        (changed(log=["../../etc/passwd"]), "log.0: String should match pattern"),
        (changed(log=["log/000001.jsonl\n"]), "log.0: String should match pattern"),
        (changed(samples=["log/000001.jsonl"]), "samples.0: String should match pattern"),
        (lambda document: [], "Input should be an object"),
        (lambda document: None, "Input should be an object"),
    ],
)
def test_another_layout(
    storage: Storage, tmp_path: Path, change: Callable[[dict[str, Any]], Any], words: str
) -> None:
    saved(storage, 12)
    path = tmp_path / "checkpoints/000012.json"
    path.write_text(json.dumps(change(json.loads(path.read_bytes()))))
    with pytest.raises(
        OutputError, match=rf"{tmp_path}: checkpoints/000012.json is damaged: {words}.*delete it to"
    ):
        read_state(storage, 12)


@pytest.mark.parametrize("data", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b'{"step": 1e999}', b"1" * 10_000])
def test_damaged_json(storage: Storage, tmp_path: Path, data: bytes) -> None:
    saved(storage, 12)
    (tmp_path / "checkpoints/000012.json").write_bytes(data)
    with pytest.raises(OutputError, match=r"checkpoints/000012.json is damaged"):
        read_state(storage, 12)
    with pytest.raises(OutputError, match=r"checkpoints/000013.json is missing"):
        read_state(storage, 13)


@pytest.mark.parametrize(
    "data", [b"", b'{"step": 1}', b'{"step": 1\n', b"[]\n", b"\xff\n", b"[" * 100_000 + b"\n"]
)
def test_damaged_logs(storage: Storage, tmp_path: Path, data: bytes) -> None:
    state = saved(storage, 12)
    (tmp_path / "log/000012.jsonl").write_bytes(data)
    with pytest.raises(
        OutputError, match=rf"{tmp_path}: log/000012.jsonl is damaged; delete the checkpoints from"
    ):
        read_lines(storage, state.log)
