"""What every command that runs the pipeline shows and says while it does."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TypedDict

from rich.console import Console

from flawforge.commands.printing import say


class Told(TypedDict):
    """What a run calls; see `factory.build.build`."""

    show: Callable[..., None]
    tell: Callable[[str], None]


@contextmanager
def watched(screen: Console) -> Iterator[Told]:
    """Shows progress on a screen; otherwise as `stoppable`."""
    from factory.run.monitor import monitor

    with stoppable(), monitor(screen) as view:
        yield Told(show=view.show, tell=partial(say, screen))


@contextmanager
def stoppable() -> Iterator[None]:
    """Ctrl-C and SIGTERM end the program with 130 and 143, and a sentence."""
    from factory.run.signals import Terminated

    try:
        yield
    except KeyboardInterrupt as stop:
        by, code = ("SIGTERM", 143) if isinstance(stop, Terminated) else ("Ctrl-C", 130)
        words = f"stopped by {by}; what is published stays, and the same command goes on from there"
        print(f"flawforge: {words}", file=sys.stderr)
        sys.exit(code)
