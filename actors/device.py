"""The device that a recipe requires, or an error where it is missing."""

from __future__ import annotations

import torch

from actors.errors import ModelError

RECIPE_REMEDY = "or set execution.corrupt.gpus (and execution.select.gpus) to 0"


def device_for(name: str, *, remedy: str = RECIPE_REMEDY) -> torch.device:
    """`cpu` or `cuda`.

    Args:
        name: of the device.
        remedy: for the message, what to do on a machine without a GPU.

    Raises:
        ModelError: a GPU is required and torch finds none; results on a CPU would have other bytes.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise ModelError(
            f"a GPU is required and torch finds none here: take a machine that has one, {remedy}"
        )
    return torch.device(name)
