"""The report on a wrong recipe: every mistake at once, in words for the person who has to fix it."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from actors.config import NOT_ALLOWED
from actors.errors import RecipeError
from actors.redaction import scrub
from factory.recipe.fields import KeyPath, Slot, slot_at, tags, without_null

COMMAND_LINE = 0
"""The line number of what was not in the file but given with `--set`."""

MOST_LISTED = 100
"""Mistakes of one kind that are looked at, and lines of a report."""

_TAGS = ("union_tag_invalid", "union_tag_not_found")
_UNWRITTEN = object()
_BOOLEANS = {"yes": "true", "on": "true", "y": "true", "no": "false", "off": "false", "n": "false"}
"""What is true and false to YAML 1.1."""


@dataclass(frozen=True)
class Mistake:
    """One mistake to fix.

    Attributes:
        path: the value that it is about; empty for the recipe as a whole.
        text: what was found, and what is allowed.
        line: None for the line of the path.
        column: for errors of syntax.
        unread: the value could not be read, so that other mistakes about it are not reported.
    """

    path: KeyPath
    text: str
    line: int | None = None
    column: int | None = None
    unread: bool = False


def report(where: str, mistakes: Sequence[Mistake], line_of: Callable[[KeyPath], int]) -> RecipeError:
    """One error for all mistakes, in the order of the file; what came with `--set` is last."""
    rows: list[tuple[tuple[float, int], str, str]] = []
    for mistake in mistakes:
        line = line_of(mistake.path) if mistake.line is None else mistake.line
        place = "(--set)" if line == COMMAND_LINE else f"line {line}"
        if mistake.column is not None:
            place += f", column {mistake.column}"
        text = f"{dotted(mistake.path)}: {mistake.text}" if mistake.path else mistake.text
        order = math.inf if line == COMMAND_LINE else line
        rows.append(((order, mistake.column or 0), place, text))
    rows.sort(key=lambda row: row[0])
    width = max(len(place) for _, place, _ in rows)
    count = "1 mistake" if len(rows) == 1 else f"{len(rows)} mistakes"
    lines = [f"  {place:<{width}}  {text}" for _, place, text in rows[:MOST_LISTED]]
    if len(rows) > MOST_LISTED:
        lines.append(f"  and {len(rows) - MOST_LISTED:,} more")
    return RecipeError("\n".join([f"{where}: {count}", *lines]))


def mistakes_of(error: ValidationError, model: type[BaseModel], written: Any) -> list[Mistake]:
    """What pydantic found, without its jargon.

    A key that is missing because another one is its misspelling is not listed twice.

    Args:
        error: from validating `written` against `model`.
        model: the outermost section.
        written: the values as they stand in the recipe, without any default.
    """
    details = error.errors(include_url=False)
    mistakes: list[Mistake] = []
    meant: set[KeyPath] = set()
    for detail in details:
        if detail["type"] == "extra_forbidden":
            if len(mistakes) == MOST_LISTED:
                break
            *location, key = detail["loc"]
            section = slot_at(model, tuple(location))
            near = get_close_matches(str(key), section.keys, n=1, cutoff=0.7)
            meant.update((*section.path, key) for key in near)
            suggestion = f" did you mean '{near[0]}'?" if near else ""
            text = f"unknown key;{suggestion} allowed here: {', '.join(section.keys)}"
            mistakes.append(Mistake((*section.path, key), text))
    for detail in details:
        slot = slot_at(model, detail["loc"])
        if detail["type"] == "missing" and slot.path not in meant:
            mistakes.append(Mistake(slot.path, f"missing{_about(slot)}; allowed: {slot.allowed}"))
        elif detail["type"] not in ("extra_forbidden", "missing"):
            mistakes.append(_wrong_value(detail, model, written))
    return list(dict.fromkeys(mistakes))  # pydantic reports a value once for every option of a union


def dotted(path: KeyPath) -> str:
    """`source.urls[1]`, as a person writes it."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def shown(value: object) -> str:
    """A value as it would stand in YAML, without secrets of URLs; long ones are cut."""
    if isinstance(value, str):
        value = scrub(value)  # before it is cut, which may take away what a secret is known by
    if isinstance(value, list):
        value = [scrub(one) if isinstance(one, str) else one for one in value]
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return "a section"
    if not isinstance(value, (str, int, float, list)):
        return str(value)
    short = reprlib.Repr()
    short.maxlevel = 2
    short.maxstring = short.maxother = short.maxlong = 60
    return short.repr(value)


def _wrong_value(detail: ErrorDetails, model: type[BaseModel], written: Any) -> Mistake:
    """A value of the wrong type, outside its range, or at odds with another value."""
    slot = slot_at(model, detail["loc"])
    context = detail.get("ctx", {})
    if detail["type"] in _TAGS:
        key = context["discriminator"].strip("'")
        choices = f"one of {', '.join(tags(slot.annotation, key))}"
        value = _written_at(written, (*slot.path, key))
        found = "missing" if value is _UNWRITTEN else f"found {shown(value)}"
        return Mistake((*slot.path, key), f"{found}; allowed: {choices}")
    if context.get("key") is not None:
        slot = slot_at(model, (*detail["loc"], context["key"]))
    value = _written_at(written, slot.path)
    if value is _UNWRITTEN:
        found = "not set" if slot.default is None else f"not set, so {shown(slot.default)}"
    else:
        found = f"found {shown(value)}" + _yaml_trap(value, slot.annotation)
    if detail["type"] in ("value_error", "assertion_error"):
        why = str(context["error"])
        return Mistake(slot.path, why if isinstance(value, Mapping) else f"{found}; {why}")
    allowed = context["allowed"] if detail["type"] == NOT_ALLOWED else slot.allowed
    return Mistake(slot.path, f"{found}; allowed: {allowed}" if allowed else f"{found}; {detail['msg']}")


def _about(slot: Slot) -> str:
    return f" ({slot.field.description})" if slot.field is not None and slot.field.description else ""


def _yaml_trap(value: Any, annotation: Any) -> str:
    """Explain why YAML took for text what looks like a number, and vice versa."""
    wanted = without_null(annotation)
    if wanted is bool and isinstance(value, str) and value.lower() in _BOOLEANS:
        return f" (text to YAML 1.2: write {_BOOLEANS[value.lower()]})"
    if wanted in (int, float) and isinstance(value, str):
        try:
            number = int(value) if wanted is int else float(value)
        except ValueError:
            return ""
        if not math.isfinite(number):
            return ""
        plain = repr(number)
        if "e" in plain and "." not in plain:
            plain = plain.replace("e", ".0e")
        return f" (text to YAML: write {plain})"
    if wanted is str and value is not None and not isinstance(value, (str, Mapping, list)):
        return " (text needs quotes here)"
    return ""


def _written_at(written: Any, path: KeyPath) -> Any:
    for part in path:
        try:
            written = written[part]
        except (KeyError, IndexError, TypeError):
            return _UNWRITTEN
    return written
