"""Figures to compare a detector with on a split: blind baselines and upper bounds, from `reference.json`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from actors.errors import EvaluationError
from eval.blind import BlindFigures

PATH = "reference.json"
BLIND, UPPER = "blind:", "upper bound"
"""How the names of rows begin."""

MEASURES = ("iou_fg", "average_precision")
"""Of which the gain is reported."""

_Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class ReferenceRow(BaseModel):
    """The figures of one row, all 0 to 1.

    Attributes:
        iou_fg: pooled IoU_fg, and the two ends of its interval.
        average_precision: of pixels.
        object_auroc_within: of broken against intact objects of images with artifacts, by mean score.
        object_auroc_clean: of broken objects against those of clean images, by mean score.
        clean_area: share of the pixels of clean images that is predicted.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    iou_fg: Annotated[list[_Share], Field(min_length=3, max_length=3)]
    average_precision: _Share
    object_auroc_within: _Share | None
    object_auroc_clean: _Share | None
    clean_area: _Share | None


_DOCUMENT = TypeAdapter(dict[str, dict[str, ReferenceRow]])


@dataclass(frozen=True)
class Gain:
    """Where a detector stands between the best blind baseline and the best upper bound.

    Attributes:
        share: (x - blind) / (upper - blind); negative for a detector below the baseline.
        blind, upper: names of the two rows.
        blind_value, upper_value: their figures.
    """

    share: float
    blind: str
    upper: str
    blind_value: float
    upper_value: float


def reference_rows(split: str, root: Path) -> dict[str, ReferenceRow]:
    """The rows of a split; empty where there is no file, or where it has none for this split.

    Args:
        split: its name.
        root: folder of the splits.

    Raises:
        EvaluationError: the file cannot be read, or its content is not as described here.
    """
    path = root / PATH
    try:
        document = _DOCUMENT.validate_json(path.read_bytes())
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise EvaluationError(f"{path} cannot be read: {error.strerror or error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"])) or "the file"
        raise EvaluationError(
            f"{path} is damaged: {field}: {first['msg']}; install the splits again, or make them with `make assets`"
        ) from error
    return document.get(split, {})


def gains(
    figures: Mapping[str, float], blind: Mapping[str, BlindFigures], rows: Mapping[str, ReferenceRow]
) -> dict[str, Gain]:
    """The gain of a detector by measure; without those for which there is no upper bound above the best baseline.

    Args:
        figures: of the detector, by measure in `MEASURES`.
        blind: computed on the same images.
        rows: of `reference_rows`; computed baselines take precedence over rows of the same name.
    """
    found = {}
    for measure in MEASURES:
        values = {name: _value(row, measure) for name, row in rows.items()}
        values |= {name: _value(one, measure) for name, one in blind.items()}
        below = {name: value for name, value in values.items() if name.startswith(BLIND)}
        above = {name: value for name, value in values.items() if name.startswith(UPPER)}
        if not below or not above:
            continue
        floor, top = max(below, key=lambda name: below[name]), max(above, key=lambda name: above[name])
        room = above[top] - below[floor]
        share = (figures[measure] - below[floor]) / room if room > 0 else math.nan
        if not math.isnan(share):
            found[measure] = Gain(share, floor, top, below[floor], above[top])
    return found


def _value(row: ReferenceRow | BlindFigures, measure: str) -> float:
    value = getattr(row, measure)
    if isinstance(value, list):
        return float(value[0])
    return float(getattr(value, "value", value))
