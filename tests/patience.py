"""How long tests wait. The option `--time-outs-times` of pytest multiplies it, for a machine whose cores are busy."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

_factor = 1.0


def multiply(factor: float) -> None:
    """Set the factor of this process; `tests/conftest.py` does so once, at the start."""
    global _factor
    _factor = factor


def seconds(base: float) -> float:
    """A time-out for a machine at rest, as long as the option asks."""
    return base * _factor


def until(
    look: Callable[[], Any],
    right: Callable[[Any], bool] = bool,
    *,
    within: float = 240,
    every: float = 0.05,
    unless: Callable[[], str] = str,
) -> Any:
    """Poll until a value is right, and return it.

    Args:
        look: reads the value.
        right: whether the wait is over.
        within: seconds for a machine at rest.
        every: seconds between two looks.
        unless: why waiting longer is of no use, such as "the process has ended"; empty to go on.
    """
    deadline = time.monotonic() + seconds(within)
    while not right(value := look()):
        reason = unless()
        assert not reason, f"{reason}; last value: {value!r}"
        assert time.monotonic() < deadline, f"not within {seconds(within):g} s; last value: {value!r}"
        time.sleep(every)
    return value
