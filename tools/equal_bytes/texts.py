"""Two texts: JSON field by field, any other line by line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import zip_longest
from typing import Any

_LONGEST, _CONTEXT = 100, 20
"""Characters that a message shows of a value, and before the first difference of two lines."""

_MISSING = object()


def text_differences(before: bytes, after: bytes) -> Iterator[tuple[str, str]]:
    """Field or line, and what differs in it."""
    if before == after:
        return
    try:
        found = list(json_differences(json.loads(before), json.loads(after)))
    except ValueError:
        yield from _lines(before, after)
        return
    yield from found or [("", "the values are equal, and their order or spelling differs")]


def json_differences(before: Any, after: Any, where: str = "") -> Iterator[tuple[str, str]]:
    """Path of every value that differs, such as `totals.accepted`, and what it was and is."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key in [*before, *(key for key in after if key not in before)]:
            inner = f"{where}.{key}" if where else str(key)
            yield from json_differences(before.get(key, _MISSING), after.get(key, _MISSING), inner)
    elif isinstance(before, list) and isinstance(after, list):
        for number, (old, new) in enumerate(zip_longest(before, after, fillvalue=_MISSING)):
            yield from json_differences(old, new, f"{where}[{number}]")
    elif before is _MISSING or after is _MISSING or json.dumps(before) != json.dumps(after):
        yield where, was_and_is(before, after)


def was_and_is(before: Any, after: Any) -> str:
    """`1 -> 2`, shortened."""
    old, new = (_shown(value) for value in (before, after))
    return f"{old} -> {new}"


def _shown(value: Any) -> str:
    text = "(missing)" if value is _MISSING else repr(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def _lines(before: bytes, after: bytes) -> Iterator[tuple[str, str]]:
    for number, (old, new) in enumerate(
        zip_longest(before.split(b"\n"), after.split(b"\n"), fillvalue=_MISSING), start=1
    ):
        if old != new:
            yield f"line {number}", was_and_is(*_from_first_difference(old, new))


def _from_first_difference(before: Any, after: Any) -> tuple[Any, Any]:
    """Two lines without the part that is equal, but for its last characters."""
    if before is _MISSING or after is _MISSING:
        return before, after
    pairs = enumerate(zip(before, after, strict=False))
    equal = next((place for place, (old, new) in pairs if old != new), min(len(before), len(after)))
    start = max(0, equal - _CONTEXT)
    return before[start:], after[start:]
