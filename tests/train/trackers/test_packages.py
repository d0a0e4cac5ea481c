"""W&B without a network, and MLflow in a folder. `make proofs` installs both aside and runs this, see
tests/integration/test_tracker_packages.py; where one is missing, its tests are skipped.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.patience import seconds
from train.checkpoint import Best
from train.execution import Tracker
from train.hooks import Report
from train.trackers import delivery
from train.trackers.delivery import Trackers
from train.trackers.tracked_run import TrackedRun

KEY = "aaaaaaaa" * 4
HEADER, BLOCK = 7, 32768
"""Bytes before the first record of a W&B file, which are as many as before each record, and of a block of records."""


def run_with(workers: int) -> TrackedRun:
    return TrackedRun(KEY, "small", {"optimizer": {"betas": [0.9, 0.999]}, "execution": {"workers": workers}})


def report(step: int, best: float | None = None) -> Report:
    found = None if best is None else Best(step=step, value=best, threshold=0.5, figures={"iou_fg": best})
    return Report(step, 1 / step, 0.001, found, 20.0, 0.25, checkpoint=0, skipped={})


class Killed(Exception):
    """Ends a training."""


def track(tracker: Tracker, steps: range, *, workers: int = 1, fails: bool = False) -> str:
    """A training of these steps, of which each even one has a validation; the trouble with the tracker."""
    try:
        with Trackers([tracker], run_with(workers)) as trackers:
            for step in steps:
                trackers.add(report(step))
                if step % 2 == 0:
                    trackers.add(report(step, best=step / 10))
            if fails:
                raise Killed
    except Killed:
        pass
    if tracker == "wandb":
        sys.modules["wandb"].teardown()  # It reads its environment once.
    return trackers.trouble


@pytest.fixture(autouse=True)
def _aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No settings of this machine."""
    for name in ("WANDB_PROJECT", "WANDB_NAME", "WANDB_API_KEY", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "config"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", str(tmp_path / "mlruns"))
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setattr(delivery, "_LAST", seconds(60.0))


def wandb_records(file: Path) -> Iterator[Any]:
    """The records of a run's file, which has the layout of LevelDB's log: checksum, length, kind, bytes."""
    from wandb.proto import wandb_internal_pb2

    data, place, record = file.read_bytes(), HEADER, b""
    while place < len(data):
        left = BLOCK - place % BLOCK
        if left < HEADER:
            place += left
            continue
        length, kind = int.from_bytes(data[place + 4 : place + 6], "little"), data[place + 6]
        record += data[place + HEADER : place + HEADER + length]
        place += HEADER + length
        if kind in (1, 4):  # The whole of a record, or its last part.
            yield wandb_internal_pb2.Record.FromString(record)
            record = b""


def wandb_run(folder: Path) -> tuple[Any, dict[int, dict[str, Any]], int]:
    """Start, figures by step, and exit code."""
    (file,) = folder.glob(f"*-{KEY}/*.wandb")
    records = list(wandb_records(file))
    (start,) = [one.run for one in records if one.HasField("run")]
    rows = [one.history for one in records if one.HasField("history")]
    history = {
        row.step.num: {
            ".".join(item.nested_key) or item.key: json.loads(item.value_json) for item in row.item
        }
        for row in rows
    }
    (code,) = [one.exit.exit_code for one in records if one.HasField("exit")]
    return start, history, code


def test_wandb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    runs = []
    for number, (steps, fails) in enumerate([(range(1, 6), True), (range(3, 9), False)]):
        folder = tmp_path / f"{number}"
        folder.mkdir()
        monkeypatch.setenv("WANDB_DIR", str(folder))
        assert track("wandb", steps, workers=number + 1, fails=fails) == ""
        runs.append(wandb_run(folder / "wandb"))
    for start, _, _ in runs:
        assert (start.run_id, start.project, start.display_name) == (KEY, "flawforge", "small")
    config = {item.key: json.loads(item.value_json) for item in runs[1][0].config.update}
    assert config["optimizer"] == {"betas": [0.9, 0.999]} and config["execution"] == {"workers": 2}
    assert [list(history) for _, history, _ in runs] == [[1, 2, 3, 4, 5], [3, 4, 5, 6, 7, 8]]
    assert [code for _, _, code in runs] == [1, 0]
    history = runs[1][1]
    assert {step: row["train/loss"] for step, row in history.items()} == {n: 1 / n for n in range(3, 9)}
    assert history[6]["validation/iou_fg"] == 0.6 and "validation/iou_fg" not in history[7]
    assert (history[8]["speed/images_per_second"], history[8]["speed/waiting_for_data"]) == (20.0, 0.25)


def test_wandb_takes_its_project_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_PROJECT", "mine")
    monkeypatch.setenv("WANDB_NAME", "second try")
    assert track("wandb", range(1, 2)) == ""
    start, _, _ = wandb_run(tmp_path / "wandb")
    assert (start.project, start.display_name) == ("mine", "second try")


def test_wandb_without_a_key_is_trouble(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    trouble = track("wandb", range(1, 4))
    assert trouble.startswith("wandb: ") and trouble.endswith("the figures of 3 steps are in log.jsonl only")


def test_mlflow(monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow")
    client = mlflow.MlflowClient()
    assert track("mlflow", range(1, 6), fails=True) == ""
    experiment = client.get_experiment_by_name("flawforge").experiment_id
    (first,) = client.search_runs([experiment])
    assert (first.info.run_name, first.info.status) == ("small", "FAILED")
    assert track("mlflow", range(3, 9), workers=2) == ""
    (found,) = client.search_runs([experiment])
    assert (found.info.run_id, found.info.status) == (first.info.run_id, "FINISHED")
    assert found.data.params == {
        "optimizer.betas.0": "0.9",
        "optimizer.betas.1": "0.999",
        "execution.workers": "1",
    }
    losses = client.get_metric_history(found.info.run_id, "train/loss")
    assert [point.step for point in losses] == [1, 2, 3, 4, 5, 3, 4, 5, 6, 7, 8]
    assert all(point.value == 1 / point.step for point in losses)
    scores = client.get_metric_history(found.info.run_id, "validation/iou_fg")
    assert [(point.step, point.value) for point in scores] == [
        (2, 0.2), (4, 0.4), (4, 0.4), (6, 0.6), (8, 0.8)
    ]  # fmt: skip
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "mine")
    assert track("mlflow", range(1, 2)) == ""
    assert len(client.search_runs([client.get_experiment_by_name("mine").experiment_id])) == 1


def test_mlflow_takes_thousands_of_figures() -> None:
    """More than one request holds."""
    mlflow = pytest.importorskip("mlflow")
    assert track("mlflow", range(1, 501)) == ""
    client = mlflow.MlflowClient()
    (found,) = client.search_runs([client.get_experiment_by_name("flawforge").experiment_id])
    losses = client.get_metric_history(found.info.run_id, "train/loss")
    assert [point.step for point in losses] == list(range(1, 501))


def test_mlflow_without_a_server_is_trouble(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    trouble = track("mlflow", range(1, 4))
    assert trouble.startswith("mlflow: ") and trouble.endswith("the figures of 3 steps are in log.jsonl only")


def test_mlflow_without_an_address_is_trouble(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mlflow")
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert track("mlflow", range(1, 4)).startswith(
        "mlflow: TrainingError: MLFLOW_TRACKING_URI is not set: worker 0; set it"
    )
