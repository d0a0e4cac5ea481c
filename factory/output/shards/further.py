"""What the samples of some recipes have beside the usual: the judge's map and figures, and counts of regions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from actors.batch import JUDGED_AREA

JUDGED = "judged.png"
"""The member of a sample that was judged."""

COUNTS = ("candidates", "regions", "broken_regions")
"""Names of the counts, in the order of the index."""


@dataclass(frozen=True)
class Further:
    """Which recipe the samples are of.

    Attributes:
        judge: it has `verify.judge`.
        share: its `regions.share` is below 1.
    """

    judge: bool = False
    share: bool = False

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> Further:
        """By the content of an identity. Recipes of earlier versions have neither key."""
        share = content["regions"].get("share", 1.0)
        return cls(content["verify"].get("judge") is not None, isinstance(share, float) and share < 1)

    @property
    def counts(self) -> tuple[str, ...]:
        """The counts of regions that a sample has, of `COUNTS`."""
        has = {"candidates": self.share, "regions": self.share or self.judge, "broken_regions": self.judge}
        return tuple(name for name in COUNTS if has[name])

    @property
    def figures(self) -> tuple[str, ...]:
        """The shares that a sample has beside `actors.batch.METRICS`."""
        return (JUDGED_AREA,) if self.judge else ()
