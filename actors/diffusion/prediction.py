"""The noise that a UNet predicts for a batch at one timestep, with prompts, guidance and v-prediction applied."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import torch
from diffusers import DDIMScheduler
from torch import Tensor

from actors.diffusion.conditioning import Conditioning
from actors.diffusion.prompts import Prompts
from actors.errors import ModelError
from actors.scheduler_config import PREDICTIONS


class Denoiser(Protocol):
    """What inversion needs of a UNet; `UNet2DConditionModel` itself will do.

    It gives the prediction for `latents` [B, C, h, w] at one timestep, as a tensor or as the first item of what it
    returns. `added_cond_kwargs` is given only if the caller has any. Rows come in any order, and a batch may hold
    every sample twice: what belongs to a sample must be in its row of the arguments.
    """

    def __call__(
        self,
        latents: Tensor,
        timestep: int,
        prompt_embeds: Tensor,
        *,
        added_cond_kwargs: Mapping[str, Tensor] = ...,
    ) -> Any: ...


class NoisePrediction:
    """A denoiser with the prompts of a batch bound to it.

    Args:
        unet: see `Denoiser`.
        scheduler: its configuration names what the UNet predicts; it holds the cumulated alphas.
        conditioning: prompts and guidance, one row per sample.

    Attributes:
        rows: UNet evaluations per sample so far.

    Raises:
        ModelError: the scheduler's prediction type is not in `PREDICTIONS`.
    """

    def __init__(self, unet: Denoiser, scheduler: DDIMScheduler, conditioning: Conditioning) -> None:
        self.kind = scheduler.config.prediction_type
        if self.kind not in PREDICTIONS:
            raise ModelError(
                f"the scheduler's prediction_type is {self.kind!r}; allowed: {' and '.join(PREDICTIONS)}"
            )
        self.unet = unet
        self.guided, self.scale = conditioning.guided, conditioning.guidance_scale
        self.prompts = conditioning.evaluated
        self.alphas_cumprod = scheduler.alphas_cumprod.to(self.prompts.embeds.device)
        self.rows = 0

    def __call__(self, latents: Tensor, timestep: int) -> Tensor:
        """The noise in latents [n B, C, h, w], where n groups have the same prompts each; same shape."""
        given = torch.cat([latents, latents]) if self.guided else latents
        groups = len(given) // len(self.prompts)
        self.rows += groups * (2 if self.guided else 1)
        found = self._evaluate(given, timestep, groups)
        if self.guided:
            unconditional, conditional = found.chunk(2)
            found = unconditional + self.scale * (conditional - unconditional)
        if self.kind == "epsilon":
            return found
        alpha_prod = self.alphas_cumprod[timestep]
        return alpha_prod.sqrt() * found + (1 - alpha_prod).sqrt() * latents

    def _evaluate(self, latents: Tensor, timestep: int, groups: int) -> Tensor:
        prompts = self.prompts if groups == 1 else Prompts.cat([self.prompts] * groups)
        extra = {"added_cond_kwargs": prompts.added} if prompts.added else {}
        found = self.unet(latents, timestep, prompts.embeds, **extra)
        return found if isinstance(found, Tensor) else found[0]
