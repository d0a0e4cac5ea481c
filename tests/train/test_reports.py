"""What worker 0 tells of a training, with trackers that keep what they get."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from factory.store.storage import Storage
from tests.train.curve_events import events
from tests.train.small import Stop, loop_of, recipe_of
from tests.train.trackers.recorder import Recorder
from train import progress
from train.hooks import Hooks, Report
from train.recipe import TrainingRecipe
from train.reports import Reports
from train.trackers import delivery

STEPS = 6


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    recorder = Recorder()
    monkeypatch.setitem(delivery._OPENERS, "wandb", recorder)
    return recorder


def tracked(net: Path) -> TrainingRecipe:
    return recipe_of(
        net,
        iterations=STEPS,
        optimizer={"warm_up": 2},
        validation={"url": "the same images", "every": 2},
        execution={"save_every": 2, "trackers": ["wandb"]},
    )


def train(recipe: TrainingRecipe, tar: Path, out: Path, *, start: int = 0, stop: int = 0) -> None:
    with Reports(recipe, "d" * 64, Storage(str(out)), start=start, workers=1, restarts=0) as reports:

        def report(found: Report) -> None:
            reports.add(found)
            if found.step == stop:
                raise Stop

        hooks = Hooks(report=report, saved=lambda figures: reports.copy())
        loop_of(recipe, tar, out, validation=tar, hooks=hooks).run()


def curves(out: Path) -> dict[int, dict[str, float]]:
    """The figures in TensorBoard, by step; the later file and the later value count."""
    found: dict[int, dict[str, Any]] = {}
    for file in sorted((out / "tensorboard").iterdir()):
        for event in events(file.read_bytes()):
            for value in event.summary.value:
                found.setdefault(event.step, {})[value.tag] = value.simple_value
    return found


def test_trackers_get_the_figures_of_tensorboard(
    net: Path, tar: Path, tmp_path: Path, recorder: Recorder
) -> None:
    train(tracked(net), tar, tmp_path)
    expected = curves(tmp_path)
    assert list(expected) == [*range(1, STEPS + 1)]
    assert "validation/iou_fg" in expected[STEPS] and "validation/iou_fg" not in expected[1]
    assert recorder.values == {step: pytest.approx(values, rel=1e-6) for step, values in expected.items()}
    assert recorder.ends == [False]
    assert recorder.opened[0].config["execution"]["trackers"] == ["wandb"]
    found = progress.read(Storage(str(tmp_path)))
    assert found is not None and (found.step, found.trouble) == (STEPS, "")


def test_a_resumed_training_continues_the_run(
    net: Path, tar: Path, tmp_path: Path, recorder: Recorder
) -> None:
    with pytest.raises(Stop):
        train(tracked(net), tar, tmp_path, stop=5)
    train(tracked(net), tar, tmp_path, start=4)
    assert [row.step for row in recorder.rows] == [1, 2, 3, 4, 5, 5, 6]
    assert recorder.opened[0] == recorder.opened[1] and recorder.ends == [True, False]


@pytest.mark.parametrize("call", ["open", "log", "finish"])
def test_a_tracker_that_fails_does_not_end_the_training(
    net: Path, tar: Path, tmp_path: Path, recorder: Recorder, call: str
) -> None:
    recorder.failing = {call: 1_000_000}
    train(tracked(net), tar, tmp_path)
    found = progress.read(Storage(str(tmp_path)))
    assert found is not None and found.step == STEPS
    assert found.trouble.startswith(f"wandb: ConnectionError: no answer to {call} from https://host/api; ")
    assert list(curves(tmp_path)) == [*range(1, STEPS + 1)]
