"""How often the number of annotators is inferred right, on simulated maps: `python -m benchmarks.richhf.annotators`.

Prints, for PNG and for JPEG at several qualities, the confusion matrix over the maps whose levels fit exactly one
number, which the simulator decides, and the share of the maps that fit several.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from benchmarks.richhf.simulated import draw_map
from eval.richhf.levels import infer_people
from eval.richhf.record import decode_map

FORMS: tuple[tuple[Literal["PNG", "JPEG"], int], ...] = (
    ("PNG", 0),
    ("JPEG", 95),
    ("JPEG", 85),
    ("JPEG", 75),
    ("JPEG", 50),
)
"""Format and quality."""

MOST = 6


@dataclass
class Tally:
    """What was inferred.

    Attributes:
        maps: in all.
        ambiguous: whose levels fit several numbers, as the simulator knows.
        found: of the others, by true number and by what was inferred: a number, `several` or `none`.
        exact: how often the set of all numbers that fit was inferred exactly.
    """

    maps: int = 0
    ambiguous: int = 0
    exact: int = 0
    found: Counter[tuple[int, str]] = field(default_factory=Counter)

    @property
    def right(self) -> float:
        """Share of the maps that fit one number for which it was inferred."""
        single = sum(self.found.values())
        return sum(self.found[n, str(n)] for n in range(1, MOST + 1)) / single if single else float("nan")


def measure(form: Literal["PNG", "JPEG"], quality: int, maps: int, side: int) -> Tally:
    """Infers the number of annotators of simulated maps of one form, `maps` for each number from 1 to 6."""
    tally = Tally()
    for people in range(1, MOST + 1):
        for seed in range(maps):
            drawn = draw_map(people, seed, side=side, form=form, quality=quality)
            read = decode_map(drawn.data, "artifact_map")
            inferred = infer_people(read.levels, lossy=read.lossy)
            tally.maps += 1
            tally.exact += inferred == drawn.fits
            if len(drawn.fits) > 1:
                tally.ambiguous += 1
                continue
            name = "several" if len(inferred) > 1 else str(inferred[0]) if inferred else "none"
            tally.found[drawn.fits[0], name] += 1
    return tally


def table(tally: Tally) -> str:
    """The confusion matrix and the shares."""
    names = [*map(str, range(1, MOST + 1)), "several", "none"]
    lines = ["true \\ inferred" + "".join(f"{name:>9}" for name in names)]
    for people in sorted({true for true, _ in tally.found}):
        lines.append(f"{people:<15}" + "".join(f"{tally.found[people, name]:>9}" for name in names))
    lines.append(
        f"right {tally.right:.2%} of {sum(tally.found.values()):,} maps that fit one number; "
        f"{tally.ambiguous / tally.maps:.1%} of {tally.maps:,} maps fit several; all numbers that fit found for "
        f"{tally.exact / tally.maps:.2%}"
    )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--maps", type=int, default=200, help="for each form and number of annotators")
    parser.add_argument("--side", type=int, default=512, help="of a map in pixels")
    options = parser.parse_args(arguments)
    for form, quality in FORMS:
        print(f"\n{form}{f' at quality {quality}' if quality else ''}")
        print(table(measure(form, quality, options.maps, options.side)))


if __name__ == "__main__":
    main()
