"""The report on a wrong recipe: every mistake at once, in words for the person who has to mend it."""

from __future__ import annotations

import math
import reprlib
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from actors.config import NOT_ALLOWED
from actors.errors import RecipeError
from actors.redaction import scrub

KeyPath = tuple[str | int, ...]
"""The way to a value: keys, and positions in lists."""

COMMAND_LINE = 0
"""The line number of what was not in the file but given with `--set`."""

MOST_LISTED = 100
"""Mistakes of one kind that are looked at, and lines of a report."""

_UNWRITTEN = object()
_BOOLEANS = {"yes": "true", "on": "true", "y": "true", "no": "false", "off": "false", "n": "false"}
"""What is true and false to YAML 1.1."""


@dataclass(frozen=True)
class Mistake:
    """One thing to mend.

    Attributes:
        path: the value that it is about; empty for the recipe as a whole.
        text: what was found, and what is allowed.
        line: None for the line of the path.
        column: for errors of syntax.
        unread: the value could not be read, so that whatever else is said about it is no news.
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
    """What pydantic found, said without its jargon.

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
        path = detail["loc"]
        if detail["type"] == "extra_forbidden":
            if len(mistakes) == MOST_LISTED:
                break
            keys = list(_section(model, path[:-1]).model_fields)
            near = get_close_matches(str(path[-1]), keys, n=1, cutoff=0.7)
            meant.update((*path[:-1], key) for key in near)
            suggestion = f" did you mean '{near[0]}'?" if near else ""
            text = f"unknown key;{suggestion} allowed here: {', '.join(keys)}"
            mistakes.append(Mistake(path, text))
    for detail in details:
        path = detail["loc"]
        if detail["type"] == "missing" and path not in meant:
            about = _field(model, path).description
            mistakes.append(Mistake(path, f"missing ({about}); allowed: {_allowed(*_slot(model, path))}"))
        elif detail["type"] not in ("extra_forbidden", "missing"):
            mistakes.append(_wrong_value(detail, model, written))
    return mistakes


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
    path = detail["loc"]
    context = detail.get("ctx", {})
    if context.get("key") is not None:
        path = (*path, context["key"])
    annotation, metadata = _slot(model, path)
    allowed = context["allowed"] if detail["type"] == NOT_ALLOWED else _allowed(annotation, metadata)
    value = _written_at(written, path)
    if value is _UNWRITTEN:
        default = _default(model, path)
        found = "not set" if default is None else f"not set, so {shown(default)}"
    else:
        found = f"found {shown(value)}" + _yaml_trap(value, annotation)
    return Mistake(path, f"{found}; allowed: {allowed}")


def _yaml_trap(value: Any, annotation: Any) -> str:
    """Says why YAML took for text what looks like a number, and the other way round."""
    wanted = _without_null(annotation)
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


def _allowed(annotation: Any, metadata: Sequence[Any]) -> str:
    """What a type and its limits admit, in words."""
    if _is_union(annotation):
        return f"{_allowed(_without_null(annotation), metadata)}, or null"
    if get_origin(annotation) is Literal:
        return f"one of {', '.join(get_args(annotation))}"
    if get_origin(annotation) is list:
        return f"a list, each item {_allowed(get_args(annotation)[0], [])}"
    if annotation is bool:
        return "true or false"
    if annotation in (int, float):
        return _number(annotation, metadata)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return f"a section with the keys {', '.join(annotation.model_fields)}"
    return "text"


def _number(kind: type, metadata: Sequence[Any]) -> str:
    limits: dict[str, Any] = {}
    for item in metadata:
        for name in ("ge", "gt", "le", "lt", "multiple_of"):
            if hasattr(item, name):
                limits[name] = getattr(item, name)
    words = "a whole number" if kind is int else "a number"
    if "multiple_of" in limits:
        words = f"a multiple of {limits['multiple_of']}"
    if "ge" in limits and "le" in limits:
        return f"{words} from {limits['ge']} to {limits['le']}"
    phrases = {"ge": "of at least", "gt": "above", "le": "of at most", "lt": "below"}
    bounds = [f"{phrase} {limits[name]}" for name, phrase in phrases.items() if name in limits]
    return f"{words} {' and '.join(bounds)}".rstrip()


def _slot(model: type[BaseModel], path: KeyPath) -> tuple[Any, Sequence[Any]]:
    """The type and the limits of the place that a path leads to."""
    annotation: Any = model
    metadata: Sequence[Any] = ()
    for part in path:
        if isinstance(part, int):
            annotation, metadata = get_args(_without_null(annotation))[0], ()
        else:
            field = annotation.model_fields[part]
            annotation, metadata = field.annotation, field.metadata
    return annotation, metadata


def _section(model: type[BaseModel], path: KeyPath) -> type[BaseModel]:
    section: type[BaseModel] = _slot(model, path)[0]
    return section


def _field(model: type[BaseModel], path: KeyPath) -> FieldInfo:
    return _section(model, path[:-1]).model_fields[str(path[-1])]


def _default(model: type[BaseModel], path: KeyPath) -> Any:
    field = _field(model, path)
    return None if field.is_required() else field.get_default(call_default_factory=True)


def _written_at(written: Any, path: KeyPath) -> Any:
    for part in path:
        try:
            written = written[part]
        except (KeyError, IndexError, TypeError):
            return _UNWRITTEN
    return written


def _is_union(annotation: Any) -> bool:
    return get_origin(annotation) in (Union, types.UnionType)


def _without_null(annotation: Any) -> Any:
    if not _is_union(annotation):
        return annotation
    return next(option for option in get_args(annotation) if option is not types.NoneType)
