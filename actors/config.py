"""The base of every settings class: strict, frozen, complete. A recipe embeds the settings of its actors."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

NOT_ALLOWED = "not_allowed"
"""The type of the errors that `not_allowed` makes."""

Share = Annotated[float, Field(ge=0, le=1)]
Inside = Annotated[float, Field(gt=0, lt=1)]


def _tuple_of_list(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


LISTED = BeforeValidator(_tuple_of_list)
"""For tuples: YAML has lists only, and strict models take no list for a tuple."""


class Config(BaseModel):
    """Strict and frozen; a whole number is accepted for a float.

    A rule that spans two keys is a validator of the later key: it reports that key's own place, and it is checked
    whatever else is wrong. Defaults are validated too, so that it also covers keys that are not written.
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, validate_default=True, allow_inf_nan=False
    )


def not_allowed(allowed: str, *, key: str | None = None) -> PydanticCustomError:
    """The error of a validator, for rules that a type and a range cannot express.

    Args:
        allowed: what would have been valid, to follow `allowed: `.
        key: the wrong key inside the value, when the validator is that of a whole section.
    """
    return PydanticCustomError(NOT_ALLOWED, "allowed: {allowed}", {"allowed": allowed, "key": key})
