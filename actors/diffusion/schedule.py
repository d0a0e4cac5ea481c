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
        alpha_prod_prev, alpha_prod: float32 [k], cumulated alpha at the lower and at the upper end of each step.
            The first step starts at `final_alpha_cumprod`, as if z_0 were at that noise level.
        still: of each step whether both ends are one, as with a schedule that visits timestep 0.
    """

    timesteps: tuple[int, ...]
    alpha_prod_prev: Tensor
    alpha_prod: Tensor
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
        alphas_cumprod = scheduler.alphas_cumprod
        positive = int((alphas_cumprod > 0).sum())
        check_visited("the scheduler", rising, end=len(alphas_cumprod), zero_from=positive)
        stride = scheduler.config.num_train_timesteps // inference_steps
        start = alphas_cumprod[rising[0] - stride] if rising[0] >= stride else scheduler.final_alpha_cumprod
        alpha_prod = alphas_cumprod[rising]
        alpha_prod_prev = torch.cat([start[None], alpha_prod[:-1]])
        still = tuple((alpha_prod_prev == alpha_prod).tolist())
        return cls(tuple(rising), alpha_prod_prev, alpha_prod, still)

    def to(self, device: torch.device) -> Schedule:
        """The same schedule with its scalars on a device."""
        return replace(
            self, alpha_prod_prev=self.alpha_prod_prev.to(device), alpha_prod=self.alpha_prod.to(device)
        )

    def noised(self, clean: Tensor, noise: Tensor, step: int) -> Tensor:
        """Clean latents noised to the upper end of a step: sqrt(abar) z_0 + sqrt(1 - abar) noise; [B, C, h, w]."""
        alpha_prod = self.alpha_prod[step].to(clean.dtype)
        return alpha_prod.sqrt() * clean + (1 - alpha_prod).sqrt() * noise


def ddim_inversion_step(
    latents: Tensor, noise: Tensor, alpha_prod_prev: Tensor, alpha_prod: Tensor
) -> Tensor:
    """One DDIM step towards more noise: g(e) of RENOISE, in the order in which the published program computes it.

    Args:
        latents: [B, C, h, w] at the lower end.
        noise: the noise predicted at the upper end, same shape.
        alpha_prod_prev, alpha_prod: float32 scalars, cumulated alpha at the lower and at the upper end.
            Scalars of lower precision do not promote.
    """
    return (
        alpha_prod.sqrt() * latents / alpha_prod_prev.sqrt()
        + alpha_prod_prev.sqrt() * (1 - alpha_prod).sqrt() * noise / alpha_prod_prev.sqrt()
        - alpha_prod.sqrt() * ((1 - alpha_prod_prev).sqrt() * noise) / alpha_prod_prev.sqrt()
    )


def ddim_step(latents: Tensor, noise: Tensor, alpha_prod_prev: Tensor, alpha_prod: Tensor) -> Tensor:
    """One DDIM step (eta 0) from the upper end of a step to its lower end; Eq. 6 of the paper with p_t = 0."""
    clean = (latents - (1 - alpha_prod).sqrt() * noise) / alpha_prod.sqrt()
    return alpha_prod_prev.sqrt() * clean + (1 - alpha_prod_prev).sqrt() * noise
