"""What to do when a batch does not fit into memory. It is never made smaller in silence: floats depend on its size."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from actors.errors import ModelError

if TYPE_CHECKING:
    import torch

_MORE = "take a smaller source.size, a corruption.dtype of half precision, or a device with more memory"


@contextmanager
def memory_errors_explained(
    part: str,
    device: torch.device | None = None,
    *,
    setting: str = "",
    rows: int = 1,
    size: tuple[int, int] | None = None,
    advice: str = _MORE,
    on_cpu: bool = False,
) -> Iterator[None]:
    """Turns torch's out-of-memory errors into advice for the recipe. Contexts nest; the innermost one names the part.

    Args:
        part: of the work that is done here, such as `decoding latents (autoencoder)`.
        device: where the batch did not fit, if it is known.
        setting: of the recipe, which bounds the rows of a batch of this part, if one does.
        rows: its value.
        size: (height, width) of the images in pixels, or None without images.
        advice: what to do where no setting bounds the rows.
        on_cpu: whether the CPU's memory counts, too. In a build it does not: other processes may free it, and the
            attempt is repeated.

    Raises:
        ModelError: instead of `torch.OutOfMemoryError`, of the errors that CUDA's libraries raise without memory, and
            of that of the CPU's allocator if `on_cpu`.
    """
    try:
        yield
    except RuntimeError as error:
        import torch  # only here: workers that take regions from the source do without it

        signs = ("ALLOC_FAILED", "DefaultCPUAllocator") if on_cpu else ("ALLOC_FAILED",)
        if not isinstance(error, torch.OutOfMemoryError) and not any(sign in str(error) for sign in signs):
            raise
        where = f" with {setting} {rows}" if setting else ""
        where += f" at {size[1]} x {size[0]} pixels" if size else ""
        where += f" on {device.type}" if device is not None else ""
        remedy = advice
        if setting and rows > 1:
            remedy = f"set {setting} to {rows // 2} or less (it is part of the digest: floats depend on it)"
        raise ModelError(f"out of memory while {part}{where}: {remedy}") from error
