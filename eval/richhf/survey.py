"""How many images survive the import, and how many each policy decided about."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import pyarrow as pa

from eval.richhf.labels import LabelPolicy
from eval.richhf.levels import MOST_PEOPLE

IN_PAPER = {"train": 7801, "test": 500}
"""Images that survive in the paper (Menn, Liang and Marculescu), which states its rule for three annotators only."""


def survey(tables: Iterable[pa.Table], split: str, policy: LabelPolicy) -> dict[str, int]:
    """Counts by name, from the columns of `eval.richhf.sample.COLUMNS` and `status` of all indexes.

    Args:
        tables: one for each shard; one is in memory at a time.
        split: of RichHF-18k.
        policy: of the import.

    Returns:
        In an order for reading. Of all records with readable maps, by what decided about the number of annotators; of
        the images with enough annotators, wherever they ended; of the samples; and the paper's count for the split.
    """
    count: Counter[str] = Counter()
    for table in tables:
        for row in table.select(["status", "annotators", "decided", "mask_area"]).to_pylist():
            count["records"] += 1
            if row["decided"] is not None:
                _count(count, row["decided"], row["annotators"], policy)
            if row["status"] == "accepted":
                count["samples"] += 1
                count["samples with an empty mask"] += row["mask_area"] == 0
                count["samples with a mask"] += row["mask_area"] > 0
    names = [
        "records",
        "maps that fit one number of annotators",
        f"maps that fit several, decided by ambiguous={policy.ambiguous}",
        f"maps that fit none, decided by unexplained={policy.unexplained}",
        *(f"annotators: {number}" for number in range(1, MOST_PEOPLE + 1)),
        f"at least {policy.least_annotators} annotators",
        f"other than 3 annotators, decided by votes={policy.votes}",
        "samples",
        "samples with a mask",
        "samples with an empty mask",
    ]
    figures = {name: count[name] for name in names}
    return figures | ({"images in the paper": IN_PAPER[split]} if split in IN_PAPER else {})


def _count(count: Counter[str], decided: str, annotators: int, policy: LabelPolicy) -> None:
    words = {
        "exact": "maps that fit one number of annotators",
        "ambiguous": f"maps that fit several, decided by ambiguous={policy.ambiguous}",
        "unexplained": f"maps that fit none, decided by unexplained={policy.unexplained}",
    }
    count[words[decided]] += 1
    count[f"annotators: {annotators}"] += 1
    if annotators >= policy.least_annotators:
        count[f"at least {policy.least_annotators} annotators"] += 1
        count[f"other than 3 annotators, decided by votes={policy.votes}"] += annotators != 3
