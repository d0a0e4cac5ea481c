"""The command line: the app with all commands, and the exit codes of errors."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

import typer

from actors.errors import FlawforgeError, RecipeError
from flawforge.commands import build, doctor, evaluate, importing, leaks, maintain, predict, quickstart, train
from flawforge.commands.printing import complain, guard_streams

DONE, FAILED, USAGE = 0, 1, 2

app = typer.Typer(
    name="flawforge",
    help="Makes pixel-level artifact datasets: clean images in, corrupted images with masks out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for theme in (quickstart, build, importing, maintain, train, predict, evaluate, leaks, doctor):
    app.add_typer(theme.app)


def main() -> NoReturn:
    """Run a command and exit with its code."""
    guard_streams()
    # Bars of transformers and huggingface_hub, such as "Loading weights", would break into our own output.
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    try:
        app()
    except RecipeError as error:
        _complain(error, USAGE)
    except FlawforgeError as error:
        _complain(error, FAILED)
    except OSError as error:
        _complain(error, FAILED)
    sys.exit(DONE)


def _complain(error: object, code: int) -> NoReturn:
    complain(str(error))
    sys.exit(code)
