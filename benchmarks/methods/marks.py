"""Whether the accepted images are visibly broken: what tinytown's annotator marks in some of them.

The verifier measures change only. The annotator knows every legal image of a caption, so that an object that has become
another legal one is not marked, and shares no code with the corruption.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from actors.corruption.verifier import widen
from actors.images import read_image
from benchmarks.methods.draws import Case, Outcome, Setting, save
from benchmarks.methods.results import Results, at, corrupting
from tinytown.annotator import Annotation, annotate
from tinytown.scene import parse

BROKEN = 12
"""Marked pixels in and around the region from which it counts as broken: three quarters of a latent pixel."""

NEAR, FAR = 2, 4
"""Pixels around the region that belong to it for `BROKEN`, and beyond which a mark lies outside."""

BINS = ((0.0, 0.1), (0.1, 0.3), (0.3, 0.5), (0.5, 0.8), (0.8, 1.0))
"""Share of the region that has changed, lower end in and upper end out; the last one holds its upper end too."""

_SAVE_EVERY = 50

Name = tuple[str, Setting, int]


@dataclass(frozen=True)
class Marks:
    """What the annotator marked in an image.

    Attributes:
        marked, inside, outside: marked pixels: all, those in the region and near it, and those far from it.
        missing: objects of the caption that are nowhere. Where one has left no trace, nothing is marked.
    """

    marked: int
    inside: int
    outside: int
    missing: int

    @property
    def broken(self) -> bool:
        return self.inside >= BROKEN


def chosen(results: Results, count: int) -> dict[tuple[str, ...], list[Outcome]]:
    """The first `count` draws of every row of the tables, by (table, row, column).

    They are accepted ones, except in `bin` (noise at the largest k by the share that changed, without those that
    spilled) and in `control` (nothing was corrupted, so nothing is accepted).
    """
    groups: dict[tuple[str, ...], list[Outcome]] = {}
    for method in corrupting():
        for k in results.steps:
            first = results.first(at(method, k))
            groups["fixed", method, str(k)] = [one for one in first if not one.reason]
        groups["ladder", method] = [climb.last for climb in results.climbs(method) if climb.accepted]
    for setting in results.direct:
        accepted = [one for one in results.first(setting) if not one.reason]
        groups["direct", setting.method, str(setting.level)] = accepted
    deepest = results.steps[-1]
    for low, high in BINS:
        groups["bin", str(low), str(high)] = [
            one
            for one in results.first(at("noise", deepest))
            if low <= one.change_inside < high + (high == BINS[-1][1]) and one.reason != "spilled"
        ]
    groups["control", "autoencoder"] = [
        one for setting in results.direct if setting.method == "none" for one in results.first(setting)
    ]
    groups["control", "round trip"] = results.first(at("none", deepest))
    return {name: outcomes[:count] for name, outcomes in groups.items()}


def mark_all(
    groups: Mapping[tuple[str, ...], Sequence[Outcome]],
    cases: Mapping[str, Case],
    path: Path,
    progress: Callable[[int, int], None],
) -> dict[Name, Marks]:
    """Annotates what the file does not have yet, and adds it to the file.

    Args:
        groups: draws by row; one that is in several is annotated once.
        cases: scenes by key.
        path: a Parquet file, created where it does not exist.
        progress: called with the numbers of annotated and of all images.
    """
    found = read_marks(path) if path.exists() else {}
    wanted = {one.name: one for outcomes in groups.values() for one in outcomes}
    missing = [one for name, one in wanted.items() if name not in found]
    for number, one in enumerate(missing, start=1):
        case = cases[one.key]
        found[one.name] = marks_of(annotate(read_image(one.picture), parse(case.caption)), case.mask)
        if number % _SAVE_EVERY == 0 or number == len(missing):
            _save_marks(found, path)
            progress(number, len(missing))
    return found


def marks_of(annotation: Annotation, region: NDArray[np.bool_]) -> Marks:
    """Counts the marks of an image's annotation by its region, bool [64, 64]."""
    marked = annotation.mask
    inside, outside = marked & widen(region, NEAR), marked & ~widen(region, FAR)
    return Marks(int(marked.sum()), int(inside.sum()), int(outside.sum()), len(annotation.missing))


def read_marks(path: Path) -> dict[Name, Marks]:
    """What `mark_all` wrote."""
    return {
        (row["key"], Setting(row["method"], row["steps"], row["level"]), row["attempt"]): Marks(
            row["marked"], row["inside"], row["outside"], row["missing"]
        )
        for row in pq.read_table(path).to_pylist()
    }


def _save_marks(found: Mapping[Name, Marks], path: Path) -> None:
    rows = [
        {"key": key, **asdict(setting), "attempt": number, **asdict(marks)}
        for (key, setting, number), marks in found.items()
    ]
    save(rows, path)
