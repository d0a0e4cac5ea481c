"""A catalogue of forged outputs: what was changed, where `verify` must find it, and what it must say."""

from __future__ import annotations

from tests.factory.maintain import (
    forgeries_of_records,  # noqa: F401  # they enter their forgeries
    forgeries_of_tars,  # noqa: F401  # they enter their forgeries
)
from tests.factory.maintain.forgery import FORGERIES, Forgery

__all__ = ["FORGERIES", "Forgery"]
