"""Two thousand mutated inputs, the same on every run, each with what must become of it."""

from __future__ import annotations

import random

from tests.mutations import beside, folders, looks, masks, pictures, tars  # noqa: F401  # they enter their kinds
from tests.mutations.inputs import KINDS, Input

TOTAL = sum(kind.count for kind in KINDS)


def inputs(share: float = 1.0) -> list[Input]:
    """All inputs, or of every kind a share, but at least one."""
    made = []
    for kind in KINDS:
        wanted = max(1, round(kind.count * share))
        for place in range(wanted):
            number = place * kind.count // wanted
            one = kind.make(number, random.Random(f"{kind.name} {number}"))
            assert one.kind == kind.name, (one.kind, kind.name)
            made.append(one)
    return made
