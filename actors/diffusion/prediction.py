"""What a UNet says of a batch at one timestep, as noise: guidance, v-prediction and prompts are dealt with here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import torch
from diffusers import DDIMScheduler
from torch import Tensor

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
        scheduler: tells what the UNet predicts, and holds the cumulated alphas.
        prompt_embeds: text states [B, tokens, width].
        added: further conditions by name, each [B, ...] (SDXL).
        guidance_scale: classifier-free guidance; at most 1 is none.
        negative_embeds, negative_added: the same of the negative prompts; needed with guidance.

    Attributes:
        rows: UNet evaluations per sample so far.

    Raises:
        ModelError: the scheduler's prediction type is not in `PREDICTIONS`.
        ValueError: guidance without negative prompts, or conditions that are not one row per sample.
    """

    def __init__(
        self,
        unet: Denoiser,
        scheduler: DDIMScheduler,
        prompt_embeds: Tensor,
        added: Mapping[str, Tensor] | None = None,
        *,
        guidance_scale: float = 1.0,
        negative_embeds: Tensor | None = None,
        negative_added: Mapping[str, Tensor] | None = None,
    ) -> None:
        self.kind = scheduler.config.prediction_type
        if self.kind not in PREDICTIONS:
            raise ModelError(
                f"the scheduler's prediction_type is {self.kind!r}; allowed: {' and '.join(PREDICTIONS)}"
            )
        self.guided = guidance_scale > 1
        if self.guided and negative_embeds is None:
            raise ValueError(f"guidance_scale is {guidance_scale}: negative_prompt_embeds are needed with it")
        self.unet, self.scale = unet, guidance_scale
        self.kept = scheduler.alphas_cumprod.to(prompt_embeds.device)
        self.embeds, self.added = prompt_embeds, dict(added or {})
        if self.guided:
            assert negative_embeds is not None
            self.embeds = torch.cat([negative_embeds, prompt_embeds])
            other = dict(negative_added or {})
            self.added = {name: torch.cat([other[name], value]) for name, value in self.added.items()}
        self.rows = 0

    def __call__(self, latents: Tensor, timestep: int) -> Tensor:
        """The noise in latents [n B, C, h, w], where n groups have the same prompts each; same shape."""
        given = torch.cat([latents, latents]) if self.guided else latents
        groups = len(given) // len(self.embeds)
        self.rows += groups * (2 if self.guided else 1)
        found = self._ask(given, timestep, groups)
        if self.guided:
            without, told = found.chunk(2)
            found = without + self.scale * (told - without)
        if self.kind == "epsilon":
            return found
        kept = self.kept[timestep]
        return kept.sqrt() * found + (1 - kept).sqrt() * latents

    def _ask(self, latents: Tensor, timestep: int, groups: int) -> Tensor:
        embeds = self.embeds
        added = self.added
        if groups > 1:
            embeds = torch.cat([embeds] * groups)
            added = {name: torch.cat([value] * groups) for name, value in added.items()}
        extra = {"added_cond_kwargs": added} if added else {}
        found = self.unet(latents, timestep, embeds, **extra)
        return found if isinstance(found, Tensor) else found[0]
