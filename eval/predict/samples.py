"""The files, fields and columns of a predicted sample."""

from __future__ import annotations

import json
from collections.abc import Mapping

from actors.batch import Sample
from actors.segmentation.marker import METRICS
from actors.stage_names import StageName
from eval.imports.labelled_set import IMAGE, MASK, ImportedSample
from factory.output.reference import Reference
from factory.output.shards.images import size_of
from factory.store.paths import name_of

MAP = "map.png"
"""The score map, 16-bit grey: level 65535 is the probability 1."""

ITEM = "item"
"""The field and column with the name that an image has in its source."""

COLUMNS: Mapping[str, str] = {
    ITEM: "string",
    "width": "int32",
    "height": "int32",
    **dict.fromkeys(METRICS, "float64"),
    "regions": "int32",
}
"""Types of the columns that a prediction adds to the index."""


def members(*, image: bool) -> tuple[str, ...]:
    """Extensions of the files of every sample but its JSON, in the order of the tar."""
    return (IMAGE, MAP, MASK) if image else (MAP, MASK)


def item_name(reference: Reference) -> str:
    """The name of an image in its source, by which other programs know it.

    The stem of its members in a tar, the stem of its file, or, where items have no names, its key.
    """
    named = json.loads(reference.member or "{}")
    if "stem" in named:
        return str(named["stem"])
    if "group" in named or reference.version == "":
        return reference.key
    name = name_of(reference.url)
    return name.rpartition(".")[0] or name


def predicted(
    sample: Sample, reference: Reference, *, image: bool, threshold: float, detector: str
) -> ImportedSample:
    """A sample as it is published.

    Args:
        sample: marked, or rejected.
        reference: to its item.
        image: whether it carries its image.
        threshold: at which it was marked.
        detector: fingerprint of the weights.
    """
    made = ImportedSample(sample.key, sample.source, sample.caption, columns={ITEM: item_name(reference)})
    if sample.rejected:
        made.reason, made.detail, made.stage = sample.reason, sample.detail, StageName(sample.stage)
        return made
    assert sample.image and sample.scores and sample.mask, sample.key
    width, height = size_of(sample.scores)
    made.columns |= {"width": width, "height": height, **sample.metrics}
    made.columns["regions"] = int(sample.metrics["regions"])
    made.files = {MAP: sample.scores, MASK: sample.mask}
    if image:
        made.files = {IMAGE: sample.image, **made.files}
    made.fields = {**made.columns, "threshold": threshold, "detector": detector}
    return made
