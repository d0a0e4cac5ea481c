"""The DDIM schedule of a scheduler folder: which timesteps are visited, and one step between two of them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from diffusers import DDIMScheduler
from torch import Tensor

from actors.scheduler_config import check_visited, timesteps


@dataclass(frozen=True)
class Schedule:
    """The last `k` steps of DDIM sampling, as pairs of neighbouring timesteps in rising noise.

    Attributes:
        timesteps: k target timesteps, rising: 1, 21, 41, ... for 50 steps of Stable Diffusion.
        kept_before, kept_after: float32 [k], cumulated alpha at the lower and at the upper end of each step.
            The first step starts at `final_alpha_cumprod`, so z_0 is treated as if it were there.
        still: of each step whether both ends are one, as with a schedule that visits timestep 0.
    """

    timesteps: tuple[int, ...]
    kept_before: Tensor
    kept_after: Tensor
    still: tuple[bool, ...]

    @classmethod
    def of(cls, scheduler: DDIMScheduler, *, inference_steps: int, inversion_steps: int) -> Schedule:
        """Reads a scheduler's own timesteps.

        The lower end of every step is the upper end of the one before it, so inversion and sampling pass through the
        same points whatever the spacing. diffusers instead goes down by `num_train_timesteps // inference_steps`, which
        misses the next timestep where `trailing` spacing rounds.

        Raises:
            ValueError: more inversion steps than inference steps, or none.
            ModelError: the scheduler has fewer timesteps, or alpha_bar is 0 at one of them.
        """
        if not 1 <= inversion_steps <= inference_steps:
            raise ValueError(f"inversion_steps is {inversion_steps}; allowed: 1 to {inference_steps}")
        rising = timesteps(scheduler.config, inference_steps)[:inversion_steps]
        kept = scheduler.alphas_cumprod
        positive = int((kept > 0).sum())
        check_visited("the scheduler", rising, end=len(kept), zero_from=positive)
        stride = scheduler.config.num_train_timesteps // inference_steps
        start = kept[rising[0] - stride] if rising[0] >= stride else scheduler.final_alpha_cumprod
        after = kept[rising]
        before = torch.cat([start[None], after[:-1]])
        return cls(tuple(rising), before, after, tuple((before == after).tolist()))

    def to(self, device: torch.device) -> Schedule:
        """The same schedule with its scalars on a device."""
        return replace(self, kept_before=self.kept_before.to(device), kept_after=self.kept_after.to(device))

    def noised(self, clean: Tensor, noise: Tensor, step: int) -> Tensor:
        """Clean latents noised to the upper end of a step: sqrt(abar) z_0 + sqrt(1 - abar) noise; [B, C, h, w]."""
        kept = self.kept_after[step].to(clean.dtype)
        return kept.sqrt() * clean + (1 - kept).sqrt() * noise


def noisier(latents: Tensor, noise: Tensor, before: Tensor, after: Tensor) -> Tensor:
    """One DDIM step towards more noise: g(e) of RENOISE, in the order in which the published program computes it.

    Args:
        latents: [B, C, h, w] at the lower end.
        noise: the noise predicted at the upper end, same shape.
        before, after: float32 scalars, cumulated alpha at both ends. Scalars of lower precision do not promote.
    """
    return (
        after.sqrt() * latents / before.sqrt()
        + before.sqrt() * (1 - after).sqrt() * noise / before.sqrt()
        - after.sqrt() * ((1 - before).sqrt() * noise) / before.sqrt()
    )


def cleaner(latents: Tensor, noise: Tensor, before: Tensor, after: Tensor) -> Tensor:
    """One DDIM step (eta 0) from the upper end of a step to its lower end; Eq. 6 of the paper with p_t = 0."""
    clean = (latents - (1 - after).sqrt() * noise) / after.sqrt()
    return before.sqrt() * clean + (1 - before).sqrt() * noise
