"""A diffusion model without networks, for tests of the code around it."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from actors.diffusion.model import DiffusionModel, Prompts
from tests import tiny_sd


class ExactModel(DiffusionModel):
    """Every latent pixel is computed alone, by single additions and multiplications, which every CPU rounds alike.

    So a row comes out the same to the last bit whatever the batch around it; with real networks that depends on the
    kernels of the host.

    Attributes:
        calls: the number of rows of every call of `denoise`.
    """

    vae_scale_factor, smallest_step, latent_channels = 8, 16, 4

    def __init__(self) -> None:
        self.name, self.device = "exact", torch.device("cpu")
        self.vae_batch_size, self._format = None, torch.contiguous_format
        self.scheduler = tiny_sd.scheduler()
        self.calls: list[int] = []

    def _encode(self, images: Tensor) -> Tensor:
        """Means over 8 x 8 pixels of red, green, blue, and the difference of the first two."""
        batch, height, width, _ = images.shape
        blocks = images.reshape(batch, height // 8, 8, width // 8, 8, 3).sum((2, 4), dtype=torch.int32)
        means = blocks.permute(0, 3, 1, 2).float() / (64 * 127.5) - 1
        return torch.cat([means, means[:, :1] - means[:, 1:2]], 1)

    def _decode(self, latents: Tensor) -> Tensor:
        """Every latent pixel as 8 x 8 pixels of one colour."""
        colours = (latents[:, :3] + 0.25 * latents[:, 3:]).permute(0, 2, 3, 1)
        return colours.repeat_interleave(8, 1).repeat_interleave(8, 2)

    def embed(self, prompts: list[str], size: tuple[int, int] | None = None) -> Prompts:
        """One number per prompt, 0 for the empty one, else 0.5 to 1."""
        values = [0.5 + zlib.crc32(one.encode()) / 2**33 if one else 0.0 for one in prompts]
        return Prompts(torch.tensor(values).reshape(-1, 1, 1))

    def denoise(
        self,
        latents: Tensor,
        timestep: int,
        prompt_embeds: Tensor,
        added_cond_kwargs: Mapping[str, Tensor] | None = None,
    ) -> Tensor:
        self.calls.append(len(latents))
        bounded = latents.clamp(-2, 2)  # else inversions with regularisation overflow
        linear = (0.3 + timestep / 1000) * bounded + prompt_embeds.reshape(-1, 1, 1, 1)
        # Without texture, noise regularisation divides by the variance of flat patches.
        texture = torch.randint(-64, 64, latents.shape[1:], generator=torch.Generator().manual_seed(timestep))
        return linear - 0.5 * bounded * bounded + texture / 64


class Full(ExactModel):
    """A model for which there is no memory."""

    def denoise(self, *given: Any, **more: Any) -> Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
