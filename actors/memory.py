"""What to do when a batch does not fit into memory. It is never made smaller in silence: floats depend on its size."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from actors.errors import ModelError


@contextmanager
def memory_errors_explained(batch_size: int, height: int, width: int, device: torch.device) -> Iterator[None]:
    """Turns torch's word that memory is out into advice for the recipe.

    Args:
        batch_size: images in one step of the corruption.
        height, width: of the images, in pixels.
        device: where the batch did not fit.

    Raises:
        ModelError: instead of `torch.OutOfMemoryError`, and of what CUDA's libraries say when they get no memory.
    """
    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, torch.OutOfMemoryError) and "ALLOC_FAILED" not in str(error):
            raise
        advice = (
            "take a smaller source.size, a corruption.dtype of half precision, or a device with more memory"
        )
        if batch_size > 1:
            half = batch_size // 2
            advice = (
                f"set corruption.batch_size to {half} or less (it is part of the digest: floats depend on it)"
            )
        raise ModelError(
            f"out of memory with corruption.batch_size {batch_size} at {width} x {height} pixels on {device.type}: "
            + advice
        ) from error
