"""NaN and infinity: an item whose rows hold them is rejected; a model that produces nothing else ends the run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from actors.batch import Sample
from actors.errors import ModelError, Reject

if TYPE_CHECKING:
    from torch import Tensor

REASON = "not_finite"

ENOUGH = 8
"""Different images in one call that cannot all be at fault: from this number on, it is the model."""


def finite_rows(values: Tensor) -> Tensor:
    """Whether each row of [B, ...] is free of NaN and infinity, bool [B] on the same device."""
    return values.isfinite().flatten(1).all(1)


def not_finite(what: str) -> Reject:
    """The reject of an item; `what` names the numbers and the step after which they were found."""
    return Reject(REASON, f"{what} hold NaN or infinity")


def check_model(samples: Sequence[Sample], control: Callable[[], bool], advice: str) -> None:
    """Distinguishes a model that overflows from items that make it overflow.

    Args:
        samples: those that a model has worked on in one call.
        control: whether the model stays finite on `control_image`; called only where every sample was rejected.
        advice: names the model, and what to do.

    Raises:
        ModelError: every sample was rejected as not finite, and either the control fails too, or there are `ENOUGH`
            different images.
    """
    if not samples or any(sample.reason != REASON for sample in samples):
        return
    different = len({sample.image for sample in samples})
    if different >= ENOUGH or not control():
        raise ModelError(f"NaN or infinity for each of {different} different images: {advice}")


def control_image(height: int, width: int) -> NDArray[np.uint8]:
    """A plain colour gradient, uint8 [H, W, 3]."""
    rows, columns = np.linspace(0, 255, height), np.linspace(0, 255, width)
    red, green = np.meshgrid(rows, columns, indexing="ij")
    return np.stack([red, green, np.full_like(red, 128)], axis=2).astype(np.uint8)
