"""Printing by the commands, and safe output of text from outside; see `actors.foreign_text`."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TextIO

from rich.console import Console
from rich.text import Text

from actors.foreign_text import lines, one_line
from actors.redaction import scrub

if TYPE_CHECKING:
    from factory.output.manifest import Progress

console = Console()
"""Standard output of the commands."""


def print_json(document: Any) -> None:
    """Print JSON for programs, always on standard output."""
    print(json.dumps(document, indent=1))


def say(screen: Console, text: str) -> None:
    """Print one line of any text, brackets and line breaks included, without the secrets of URLs."""
    screen.print(one_line(scrub(text)), markup=False, highlight=False, soft_wrap=True)


def cell(text: object) -> Text:
    """Return any text in a form that is safe for a table or a title."""
    return Text(one_line(scrub(str(text))))


def complain(text: str, stream: TextIO | None = None) -> None:
    """Print an error, which may have several lines."""
    print(lines(scrub(f"flawforge: {text}")), file=stream or sys.stderr)


def counts(found: Mapping[str, int]) -> str:
    """Format counts as `unchanged 1,230, spilled 3`. Names may come from outside, so print the result with `say`."""
    return ", ".join(f"{name} {count:,}" for name, count in found.items())


def summary(total: Progress) -> str:
    """A sentence with the counts of an output; print it with `say`."""
    return f"{total.accepted:,} samples in {total.done} shards, {total.rejected:,} rejected" + (
        f" ({counts(total.reasons)})" if total.reasons else ""
    )


def guard_streams() -> None:
    """Make standard streams and log lines of this process able to print any text, in any locale."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    if logging.lastResort is not None:
        logging.lastResort.setFormatter(_SafeFormatter())


class _SafeFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return lines(scrub(super().format(record)))
