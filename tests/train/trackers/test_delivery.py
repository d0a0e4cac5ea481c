"""The way of figures to trackers that answer, fail, come back, or hang."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import flawforge
from actors.errors import RecipeError
from tests.patience import until
from tests.train.small import recipe_of
from tests.train.trackers.recorder import Recorder
from train.checkpoint import Best
from train.hooks import Report
from train.trackers import delivery
from train.trackers.delivery import Trackers, check_installed
from train.trackers.tracked_run import TrackedRun

RUN = TrackedRun("a" * 32, "small", {"batch": 8})


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "_PAUSE", 0.01)
    monkeypatch.setattr(delivery, "_AFTER_TROUBLE", 0.01)


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    recorder = Recorder()
    monkeypatch.setitem(delivery._OPENERS, "wandb", recorder)
    return recorder


def report(step: int, best: float | None = None) -> Report:
    found = None if best is None else Best(step=step, value=best, threshold=0.5, figures={"iou_fg": best})
    return Report(step, 1 / step, 0.001, found, 20.0, 0.25, checkpoint=0, skipped={})


def figures(step: int, **validation: float) -> dict[str, float]:
    return {
        "train/loss": 1 / step,
        "train/learning_rate": 0.001,
        "speed/images_per_second": 20.0,
        "speed/waiting_for_data": 0.25,
        **{f"validation/{name}": value for name, value in validation.items()},
    }


def test_every_step_arrives_once_with_its_last_figures(recorder: Recorder) -> None:
    """A checkpoint reports its step again, then with the validation."""
    with Trackers(["wandb"], RUN) as trackers:
        for found in (report(1), report(2), report(2, best=0.5), report(3, best=0.5)):
            trackers.add(found)
    assert recorder.opened == [RUN]
    assert recorder.values == {1: figures(1), 2: figures(2, iou_fg=0.5), 3: figures(3, iou_fg=0.5)}
    assert recorder.ends == [False] and trackers.trouble == ""


def test_more_steps_than_one_delivery_has(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "_AT_ONCE", 3)
    with Trackers(["wandb"], RUN) as trackers:
        for step in range(1, 21):
            trackers.add(report(step))
    assert list(recorder.values) == list(range(1, 21))


def test_a_training_that_fails_is_a_failed_run(recorder: Recorder) -> None:
    with pytest.raises(ZeroDivisionError), Trackers(["wandb"], RUN) as trackers:
        trackers.add(report(1))
        raise ZeroDivisionError
    assert recorder.ends == [True] and list(recorder.values) == [1]


@pytest.mark.parametrize("call", ["open", "log"])
def test_a_tracker_that_comes_back_gets_all_it_missed(recorder: Recorder, call: str) -> None:
    recorder.failing = {call: 3}
    with Trackers(["wandb"], RUN) as trackers:
        for step in range(1, 6):
            trackers.add(report(step))
        until(lambda: recorder.failing[call] == 0)
        trackers.add(report(6))
    assert list(recorder.values) == [1, 2, 3, 4, 5, 6] and recorder.ends == [False]
    assert trackers.trouble == (
        f"wandb: ConnectionError: no answer to {call} from https://host/api; the training goes on"
    )


@pytest.mark.parametrize(
    ("call", "lost"),
    [
        ("open", "the figures of 3 steps are in log.jsonl only"),
        ("log", "the figures of 3 steps are in log.jsonl only"),
        ("finish", "its run has no end"),
    ],
)
def test_a_tracker_that_stays_away_is_stated_once(recorder: Recorder, call: str, lost: str) -> None:
    recorder.failing = {call: 1_000_000}
    with Trackers(["wandb"], RUN) as trackers:
        for step in (1, 2, 3):
            trackers.add(report(step))
    assert trackers.trouble == (
        f"wandb: ConnectionError: no answer to {call} from https://host/api; the training goes on; {lost}"
    )


@pytest.fixture
def hanging(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    over = threading.Event()

    def hang(run: TrackedRun) -> Any:
        over.wait()

    monkeypatch.setitem(delivery._OPENERS, "mlflow", hang)
    monkeypatch.setattr(delivery, "_LAST", 0.1)
    yield
    over.set()


def test_a_tracker_that_hangs_is_left_behind(recorder: Recorder, hanging: None) -> None:
    with Trackers(["mlflow", "wandb"], RUN) as trackers:
        for step in (1, 2, 3):
            trackers.add(report(step))
        until(lambda: len(recorder.rows) == 2)
    assert "mlflow: no answer within 0.1 s; the figures of 3 steps are in log.jsonl only" in trackers.trouble


def test_figures_for_a_tracker_that_is_away_are_bounded(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "_KEPT", 4)
    recorder.failing = {"open": 1_000_000}
    with Trackers(["wandb"], RUN) as trackers:
        for step in range(1, 11):
            trackers.add(report(step))
    assert "the figures of 10 steps are in log.jsonl only" in trackers.trouble
    assert len(trackers._deliveries[0]._rows) == 4


def test_without_trackers_nothing_is_done() -> None:
    with Trackers([], RUN) as trackers:
        trackers.add(report(1))
    assert trackers.trouble == ""


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    monkeypatch.setitem(sys.modules, "mlflow", None)
    check_installed([], "here")
    with pytest.raises(RecipeError) as one:
        check_installed(["wandb"], "here")
    assert str(one.value) == (
        "execution.trackers: wandb is not installed here: pip install 'flawforge[wandb]', or take it out of "
        "execution.trackers"
    )
    with pytest.raises(RecipeError) as both:
        check_installed(["wandb", "mlflow"], "on the node of worker 0, n1")
    assert str(both.value) == (
        "execution.trackers: wandb and mlflow are not installed on the node of worker 0, n1: "
        "pip install 'flawforge[wandb,mlflow]', or take them out of execution.trackers"
    )


def test_a_folder_of_that_name_is_no_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """wandb leaves a folder `wandb` where it ran."""
    (tmp_path / "tracker_of_nobody").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    assert not delivery._installed("tracker_of_nobody")
    (tmp_path / "tracker_of_somebody.py").touch()
    assert delivery._installed("tracker_of_somebody")


def test_a_missing_package_ends_the_training_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    recipe = recipe_of("net", execution={"trackers": ["mlflow"]})
    with pytest.raises(RecipeError, match="mlflow is not installed here"):
        flawforge.train(recipe, tmp_path / "out", data=str(tmp_path / "missing.tar"))
    assert not (tmp_path / "out").exists()
