"""What Ray Train is asked for, and its time-outs."""

from __future__ import annotations

import os

import pytest
from ray.train import ControllerError, WorkerGroupError
from ray.train.v2._internal.exceptions import WorkerGroupStartupFailedError, WorkerGroupStartupTimeoutError

from train.execution import Workers
from train.scaling import failures_of, is_lack_of_room, scaling_of, time_outs

PLACEMENT = "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S"
BARRIERS = "RAY_TRAIN_COLLECTIVE_TIMEOUT_S"


def test_an_elastic_training_grows_to_what_it_is_given() -> None:
    scaling = scaling_of(Workers(workers=(2, 8), cpus=0.5, resize_every=30), 5)
    assert scaling.num_workers == (2, 5)
    assert scaling.elastic_resize_monitor_interval_s == 30
    assert scaling.resources_per_worker == {"CPU": 0.5} and not scaling.use_gpu


def test_a_training_of_one_size_keeps_it() -> None:
    scaling = scaling_of(Workers(workers=4, gpus=1), 4)
    assert scaling.num_workers == 4 and not scaling.elasticity_enabled
    assert scaling.resources_per_worker == {"CPU": 1, "GPU": 1} and scaling.use_gpu


def test_only_elastic_trainings_give_up_waiting_for_room() -> None:
    """The others wait for a node that comes back, as long as that takes."""
    assert failures_of(Workers(workers=(1, 2))).controller_failure_limit == 1
    assert failures_of(Workers(workers=2)).controller_failure_limit == -1
    assert failures_of(Workers(workers=2)).max_failures == 0


@pytest.mark.parametrize(
    ("error", "lack"),
    [
        (ControllerError(WorkerGroupStartupTimeoutError(num_workers=2)), True),
        (ControllerError(WorkerGroupStartupFailedError("a worker died")), False),
        (WorkerGroupError("lost", {0: RuntimeError()}), False),
        (RuntimeError("anything"), False),
    ],
)
def test_a_lack_of_room_is_told_from_other_ends(error: Exception, lack: bool) -> None:
    assert is_lack_of_room(error) is lack


def test_time_outs_are_set_for_one_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (PLACEMENT, BARRIERS):
        monkeypatch.delenv(name, raising=False)
    with time_outs(Workers(workers=2, time_out=7)):
        assert os.environ[BARRIERS] == "7.0" and PLACEMENT not in os.environ
    with time_outs(Workers(workers=(1, 2), time_out=7)):
        assert os.environ[BARRIERS] == "7.0" and os.environ[PLACEMENT] == "20"
    assert BARRIERS not in os.environ and PLACEMENT not in os.environ


def test_time_outs_of_the_user_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PLACEMENT, "90")
    with time_outs(Workers(workers=(1, 2))):
        assert os.environ[PLACEMENT] == "90"
    assert os.environ[PLACEMENT] == "90"
