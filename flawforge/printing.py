"""How commands print what several of them have to say."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from rich.console import Console

from actors.redaction import scrub


def print_json(document: Any) -> None:
    """For programs: on standard output, whatever the console is."""
    print(json.dumps(document, indent=1))


def say(screen: Console, text: str) -> None:
    """Prints a line of words that may hold anything, brackets and ends of lines too; but no secret of a URL."""
    screen.print(harmless(scrub(text)), markup=False, highlight=False, soft_wrap=True)


def harmless(text: str) -> str:
    """What would steer a terminal, such as a key from outside may hold, is shown and not sent."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


def counts(found: Mapping[str, int]) -> str:
    """`unchanged 1,230, spilled 3`."""
    return ", ".join(f"{name} {count:,}" for name, count in found.items())
