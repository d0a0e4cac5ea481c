"""What is done to the latent inside a region. Plain functions in one table, `METHODS`."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

Corruption = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]
"""(inverted, clean, mask, kept, noise) to the corrupted latent; see `noised_clean_latent` for the shapes."""


def noised_clean_latent(inverted: Tensor, clean: Tensor, mask: Tensor, kept: Tensor, noise: Tensor) -> Tensor:
    """The paper's corruption, Eq. 5: outside the mask z_t, inside it z_0 noised to the same level.

    Args:
        inverted: z_t [B, C, h, w].
        clean: z_0 [B, C, h, w].
        mask: 0 or 1, [B, 1, h, w].
        kept: scalar, cumulated alpha at t; phi = sqrt(kept), p = sqrt(1 - kept).
        noise: standard normal [B, C, h, w].
    """
    inside = kept.sqrt() * clean + (1 - kept).sqrt() * noise
    return torch.where(mask.bool(), inside, inverted)


def nothing(inverted: Tensor, clean: Tensor, mask: Tensor, kept: Tensor, noise: Tensor) -> Tensor:
    """No corruption: the round trip through the model, for pseudo labels and clean negatives."""
    return inverted


METHODS: dict[str, Corruption] = {"noise": noised_clean_latent, "none": nothing}


def latent_mask(masks: Tensor, height: int, width: int) -> Tensor:
    """Brings pixel masks to latent resolution without losing thin regions.

    A cell is inside if at least half of it is. Where a touched cell has no such cell among its eight neighbours
    and itself, it is inside too: a line thinner than half a cell is kept whole, and a solid region is not widened.

    Args:
        masks: bool [B, H, W]; H and W are multiples of `height` and `width`.

    Returns:
        bool [B, 1, height, width].
    """
    rows, columns = masks.shape[1] // height, masks.shape[2] // width
    if (rows * height, columns * width) != tuple(masks.shape[1:]):
        raise ValueError(
            f"masks of {masks.shape[2]} x {masks.shape[1]} pixels do not divide into {width} x {height} cells"
        )
    covered = F.avg_pool2d(masks[:, None].float(), (rows, columns))
    solid = covered >= 0.5
    near_solid = F.max_pool2d(solid.float(), 3, stride=1, padding=1) > 0
    return solid | ((covered > 0) & ~near_solid)


def draw_noise(seeds: list[int], shape: tuple[int, ...]) -> Tensor:
    """Standard normal noise [B, *shape], each row from its own CPU generator, so that neighbours do not matter."""
    rows = [torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    return torch.stack(rows)
