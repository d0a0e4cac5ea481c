"""Progress, messages and interruption of every command that runs the pipeline."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TypedDict

from rich.console import Console

from flawforge.commands.printing import say


class Callbacks(TypedDict):
    """The functions that a run calls; see `factory.build.build`."""

    show: Callable[..., None]
    tell: Callable[[str], None]


@contextmanager
def watched(screen: Console) -> Iterator[Callbacks]:
    """Show progress on a console; otherwise the same as `stoppable`."""
    from factory.run.monitor import monitor

    with stoppable(), monitor(screen) as view:
        yield Callbacks(show=view.show, tell=partial(say, screen))


@contextmanager
def stoppable() -> Iterator[None]:
    """Exit with a message and code 130 on Ctrl-C or 143 on SIGTERM."""
    from factory.run.signals import Terminated

    try:
        yield
    except KeyboardInterrupt as stop:
        by, code = ("SIGTERM", 143) if isinstance(stop, Terminated) else ("Ctrl-C", 130)
        message = f"stopped by {by}; what is published stays, and the same command goes on from there"
        print(f"flawforge: {message}", file=sys.stderr)
        sys.exit(code)
