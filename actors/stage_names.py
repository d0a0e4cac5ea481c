"""Names of the stages, used for worker pools, rejects, metrics and seconds alike."""

from __future__ import annotations

from enum import StrEnum


class StageName(StrEnum):
    """A stage of a pipeline, or a step within one.

    `LOAD`, `SELECT`, `CORRUPT`, `PREDICT` and `WRITE` are stages: each has a pool of workers, metrics and seconds. The
    others are steps, and name the place of a reject or of an item's progress more exactly. All values are part of the
    output's format.
    """

    LOAD = "load"
    SELECT_IMAGE = "select_image"
    """Within the load stage: checks and resizes images. Also what reading an item rejects."""
    SELECT = "select"
    SELECT_REGION = "select_region"
    """Within the select stage: finds the masks."""
    INVERT = "invert"
    """Within the corrupt stage; progress only."""
    CORRUPT = "corrupt"
    VERIFY = "verify"
    """Within the corrupt stage: judges each draw against its baseline, by default the round trip."""
    PREDICT = "predict"
    """Of `flawforge predict`, between load and write."""
    WRITE = "write"
