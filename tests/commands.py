"""Flawforge's commands as a user gives them: in this process where they are light, else in a process of their own."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from flawforge import cli
from tests.patience import seconds

COMMAND = (sys.executable, "-m", "flawforge")
ROOT = Path(__file__).parents[1]


def run(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """A command in this process, with its exit code and what it printed.

    For commands that read and write files. Modules that are already imported are not imported again, which costs a new
    process several seconds of CPU time.

    Args:
        arguments: of the command.
        cwd: the folder to run it in.
    """
    told, complaints = io.StringIO(), io.StringIO()
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(told),
        contextlib.redirect_stderr(complaints),
        pytest.raises(SystemExit) as end,
    ):
        patch.setattr(sys, "argv", ["flawforge", *arguments])
        patch.setenv("COLUMNS", "80")  # as without a terminal
        if cwd is not None:
            patch.chdir(cwd)
        cli.main()
    code = end.value.code or 0
    assert isinstance(code, int), code
    return subprocess.CompletedProcess(arguments, code, told.getvalue(), complaints.getvalue())


def run_apart(*arguments: str, within: float = 120, **options: Any) -> subprocess.CompletedProcess[str]:
    """A command in a process of its own.

    Args:
        arguments: of the command.
        within: seconds that it may take on a machine at rest.
        options: of `subprocess.run`.
    """
    return subprocess.run(
        [*COMMAND, *arguments], capture_output=True, text=True, timeout=seconds(within), **options
    )


def start(*arguments: str, environment: dict[str, str] | None = None) -> subprocess.Popen[str]:
    """A command in a process group of its own, with all that it prints in one stream."""
    return _started([*COMMAND, *arguments], environment)


def start_held_back(
    gate: Path, shard: int, *arguments: str, environment: dict[str, str] | None = None
) -> subprocess.Popen[str]:
    """The same, for a build that cannot end: it loads one of its shards only when the file `gate` exists."""
    return _started([sys.executable, "-m", "tests.held_back", str(gate), str(shard), *arguments], environment)


def kill(process: subprocess.Popen[str]) -> None:
    """SIGKILL to driver, raylet and all workers of a started build."""
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def _started(command: Sequence[str], environment: dict[str, str] | None) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command,
        env={**(environment or os.environ), "PYTHONPATH": str(ROOT)},
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
