"""A catalogue of forged outputs: what was changed, where `verify` must find it, and what it must say."""

from __future__ import annotations

from tests.factory.care import forgeries_of_records, forgeries_of_tars  # noqa: F401  # they enter their forgeries
from tests.factory.care.forgery import FORGERIES, Forgery

__all__ = ["FORGERIES", "Forgery"]
