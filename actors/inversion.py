"""Latent inversion by fixed-point iteration (ReNoise without averaging and regularisation), and resampling."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from diffusers import DDIMScheduler
from torch import Tensor

from actors.schedule import Schedule, cleaner, noisier


class Denoiser(Protocol):
    """What inversion needs of a UNet: the noise in `latents` [B, C, h, w] at one timestep, given text states."""

    def __call__(self, latents: Tensor, timestep: int, prompt_embeds: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class Inversion:
    """Inverted latents.

    Attributes:
        latents: [B, C, h, w], z_t at the last timestep.
        trajectory: [B, k + 1, C, h, w] from z_0 to z_t, or None.
        timesteps: the k timesteps visited, rising.
        unet_rows: int64 [B], UNet evaluations per sample.
        residual: [B], RMS of the last change of the fixed point over all steps: how far from converged it is.
    """

    latents: Tensor
    trajectory: Tensor | None
    timesteps: tuple[int, ...]
    unet_rows: Tensor
    residual: Tensor


@torch.no_grad()
def invert(
    unet: Denoiser,
    scheduler: DDIMScheduler,
    latents: Tensor,
    prompt_embeds: Tensor,
    *,
    inference_steps: int = 50,
    inversion_steps: int = 10,
    iterations: int = 4,
    keep_trajectory: bool = False,
) -> Inversion:
    """Finds the noisy latent from which DDIM sampling leads back to `latents`.

    A step from timestep p to t solves x = g(unet(x, t)), which is implicit in x, by iteration from x = z_p
    (Garibi et al. 2024, Eq. 7, without averaging and regularisation). The batch is computed as it is given:
    callers pad it to a fixed shape.

    Args:
        unet: noise prediction, see `Denoiser`.
        scheduler: epsilon prediction; gives timesteps and cumulated alphas.
        latents: scaled image latents [B, C, h, w], float32 or float64.
        prompt_embeds: text states [B, tokens, width].
        inference_steps: steps of the whole DDIM schedule (50 in the paper).
        inversion_steps: steps k to invert (10 in the paper).
        iterations: re-evaluations per step after the first; 0 is plain DDIM inversion.
        keep_trajectory: also return the latents of every step.
    """
    if iterations < 0:
        raise ValueError(f"iterations is {iterations}; allowed: 0 (DDIM inversion) or more")
    schedule = Schedule.of(scheduler, inference_steps=inference_steps, inversion_steps=inversion_steps)
    schedule = schedule.to(latents.device)
    current, visited = latents, [latents]
    square = torch.zeros(len(latents), dtype=latents.dtype, device=latents.device)
    for step, timestep in enumerate(schedule.timesteps):
        before, after = schedule.kept_before[step], schedule.kept_after[step]
        guess, last = current, current
        for _ in range(iterations + 1):
            last, guess = guess, noisier(current, unet(guess, timestep, prompt_embeds), before, after)
        square += (guess - last).square().mean((1, 2, 3))
        current = guess
        visited.append(current)
    rows = torch.full((len(latents),), inversion_steps * (iterations + 1), dtype=torch.int64)
    trajectory = torch.stack(visited, 1) if keep_trajectory else None
    residual = (square / inversion_steps).sqrt()
    return Inversion(current, trajectory, schedule.timesteps, rows, residual)


@torch.no_grad()
def resample(
    unet: Denoiser,
    scheduler: DDIMScheduler,
    latents: Tensor,
    prompt_embeds: Tensor,
    *,
    inference_steps: int = 50,
    inversion_steps: int = 10,
) -> Tensor:
    """DDIM sampling of the last `inversion_steps` steps (Eq. 6 of the paper): [B, C, h, w] to the same shape."""
    schedule = Schedule.of(scheduler, inference_steps=inference_steps, inversion_steps=inversion_steps)
    schedule = schedule.to(latents.device)
    for step in reversed(range(inversion_steps)):
        noise = unet(latents, schedule.timesteps[step], prompt_embeds)
        latents = cleaner(latents, noise, schedule.kept_before[step], schedule.kept_after[step])
    return latents
