"""Conditions on the metadata of an item: its columns, or the fields of its JSON file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import date, time
from decimal import Decimal

from actors.errors import Reject
from factory.recipe.source import Filter, Scalar

LARGEST_DOCUMENT = 1 << 20
"""Bytes above which an item's JSON file is not read."""

_KINDS: dict[type, type] = {bool: bool, int: float, float: float, str: str}
"""JSON's kinds by Python's types: all numbers are one kind, and true does not equal 1."""


def reason_against(fields: Mapping[str, object], filters: Sequence[Filter]) -> str:
    """The reason to pass an item over, empty where all filters hold; of several, that of the first filter."""
    return next(filter(None, (_reason(fields, one) for one in filters)), "")


def fields_of(data: bytes) -> Mapping[str, object] | Reject:
    """The fields of an item's JSON file; a `Reject` where it holds no JSON object."""
    if len(data) > LARGEST_DOCUMENT:
        return too_large()
    try:
        document = json.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        return Reject("bad_metadata", f"its JSON file cannot be read: {error}")
    if not isinstance(document, dict):
        return Reject("bad_metadata", f"its JSON file holds a {type(document).__name__}, not an object")
    return document


def too_large() -> Reject:
    """The reject for an item whose JSON file is above `LARGEST_DOCUMENT`."""
    return Reject("bad_metadata", f"its JSON file has more than {LARGEST_DOCUMENT:,} bytes")


def _reason(fields: Mapping[str, object], one: Filter) -> str:
    value = _scalar(fields.get(one.field))
    if value is None:
        return "filter_field_missing"
    bounds = [bound for bound in (one.least, one.most) if bound is not None]
    kind = _KINDS.get(type(value))
    if kind is None or any(_KINDS[type(bound)] is not kind for bound in bounds):
        return "filter_field_wrong_type"
    # Negated, so that nothing holds for a NaN.
    if one.least is not None and not value >= one.least:  # type: ignore[operator]
        return "filtered"
    if one.most is not None and not value <= one.most:  # type: ignore[operator]
        return "filtered"
    if one.any_of is not None and not _among(value, one.any_of):
        return "filtered"
    return "filtered" if one.none_of is not None and _among(value, one.none_of) else ""


def _scalar(value: object) -> object:
    """Dates and times as ISO 8601 spells them, decimals as fractions; others as they are."""
    if type(value) in _KINDS:
        return value
    if isinstance(value, date | time):
        return value.isoformat()
    return float(value) if isinstance(value, Decimal) else value


def _among(value: object, others: Sequence[Scalar]) -> bool:
    kind = _KINDS[type(value)]
    return any(value == other and kind is _KINDS[type(other)] for other in others)
