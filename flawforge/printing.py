"""How commands print what several of them have to say."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def print_json(document: Any) -> None:
    """For programs: on standard output, whatever the console is."""
    print(json.dumps(document, indent=1))


def counts(found: Mapping[str, int]) -> str:
    """`unchanged 1,230, spilled 3`."""
    return ", ".join(f"{name} {count:,}" for name, count in found.items())
