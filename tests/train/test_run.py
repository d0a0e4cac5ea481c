"""What the main job makes of the failures and the progress of its workers."""

from __future__ import annotations

from pathlib import Path

import pytest
from ray.train.v2._internal.exceptions import UserExceptionWithTraceback

from actors.errors import BuildError, FlawforgeError, LockLostError, OutputError, TrainingError
from factory.store.storage import Storage
from tests.patience import until
from train import progress
from train.progress import Progress
from train.run import _verdict, _watching


def failed(error: BaseException) -> UserExceptionWithTraceback:
    """As Ray Train reports what a worker raised."""
    return UserExceptionWithTraceback(error, f"Traceback:\n  File x\n{type(error).__name__}: {error}\n")


@pytest.mark.parametrize(
    "error", [TrainingError("the loss is nan"), OutputError("disk full"), LockLostError("another run")]
)
def test_errors_that_would_come_again_end_the_training(error: FlawforgeError) -> None:
    """Also where the failure of another worker, which lost the connection, comes first."""
    with pytest.raises(type(error)) as found:
        _verdict({0: failed(RuntimeError("Connection closed by peer")), 1: failed(error)})
    assert found.value is error and found.value.__cause__ is None


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (failed(RuntimeError("Connection closed by peer")), "RuntimeError: Connection closed by peer"),
        (failed(BuildError("not now")), "BuildError: not now"),
        (
            failed(RuntimeError("[x.cc:81] Timed out waiting 5000ms for recv operation to complete")),
            "another worker did not answer within execution.time_out (RuntimeError: [x.cc:81] Timed out waiting "
            "5000ms for recv operation to complete)",
        ),
        (ConnectionError(), "ConnectionError"),
        (RuntimeError("x" * 1000), "x" * 300),
    ],
)
def test_other_failures_are_told_and_tried_again(error: Exception, words: str) -> None:
    verdict = _verdict({1: RuntimeError("later"), 0: error})
    assert isinstance(verdict, BuildError) and str(verdict) == f"workers were lost: worker 0: {words}"


def test_trouble_with_a_tracker_is_told_once(tmp_path: Path) -> None:
    """Also where it is written last; what an earlier run has left is not told again."""
    storage = Storage(str(tmp_path))
    progress.write(storage, Progress(progress.STOPPED, 4, 10, trouble="wandb: no key"))
    shown: list[Progress] = []
    told: list[str] = []
    with _watching(storage, shown.append, told.append):
        pass
    assert told == []
    with _watching(storage, shown.append, told.append):
        progress.write(storage, Progress(progress.RUNNING, 5, 10, trouble="mlflow: no answer"))
        until(lambda: shown[-1].step == 5)
        progress.write(storage, Progress(progress.RUNNING, 6, 10, trouble="mlflow: no answer"))
    assert shown[-1].step == 6 and told == ["mlflow: no answer"]
