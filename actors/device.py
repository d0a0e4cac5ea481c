"""The device that a recipe requires, or an error where it is missing."""

from __future__ import annotations

import torch

from actors.errors import ModelError


def device_for(name: str) -> torch.device:
    """`cpu` or `cuda`.

    Raises:
        ModelError: a GPU is required and torch finds none; results on a CPU would have other bytes.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise ModelError(
            "the recipe gives a stage a GPU and torch finds none here: take a machine that has one, or set "
            "execution.corrupt.gpus (and execution.select.gpus) to 0"
        )
    return torch.device(name)
