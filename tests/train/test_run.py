"""What the main job makes of the failures of its workers."""

from __future__ import annotations

import pytest
from ray.train.v2._internal.exceptions import UserExceptionWithTraceback

from actors.errors import BuildError, FlawforgeError, LockLostError, OutputError, TrainingError
from train.run import _verdict


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
