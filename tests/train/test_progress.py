"""The progress of a training in its output."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from factory.store.storage import Storage
from train.progress import FINISHED, RUNNING, Progress, ProgressFile, read, write


def test_it_reads_back(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    assert read(storage) is None
    written = Progress(
        RUNNING, 5, 10, loss=0.25, validation={"iou_fg": 0.5}, best=4, skipped={"a": 1}, workers=2
    )
    write(storage, written)
    found = read(storage)
    assert found is not None and {**found.document, "written": ""} == written.document
    assert abs((datetime.now(UTC) - datetime.fromisoformat(found.written)).total_seconds()) < 3600
    write(storage, Progress(FINISHED, 10, 10))
    found = read(storage)
    assert found is not None and (found.phase, found.step) == (FINISHED, 10)


def test_it_is_due_after_a_pause(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    file = ProgressFile(Storage(str(tmp_path)))
    assert file.due
    file.write(Progress(RUNNING, 1, 10))
    assert not file.due
    now += 1.0
    assert file.due


def test_trouble_with_the_store_ends_nothing(tmp_path: Path) -> None:
    (tmp_path / "progress.json").mkdir()
    storage = Storage(str(tmp_path))
    write(storage, Progress(RUNNING, 1, 10))
    assert read(storage) is None


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"\xff",
        b"[" * 100_000,
        b'{"phase": "running"}',
        b'{"phase": "running", "step": "5", "iterations": 10}',
        b'{"phase": "running", "step": 5, "iterations": 10, "loss": "low"}',
        b'{"phase": "running", "step": 5, "iterations": 10, "validation": {"iou_fg": null}}',
    ],
)
def test_damaged_progress_is_none(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "progress.json").write_bytes(data)
    assert read(Storage(str(tmp_path))) is None


def test_that_of_a_later_version_is_read(tmp_path: Path) -> None:
    document = {**Progress(RUNNING, 5, 10).document, "gradient_norm": 0.5}
    (tmp_path / "progress.json").write_text(json.dumps(document))
    assert read(Storage(str(tmp_path))) == Progress(RUNNING, 5, 10)
