"""Latent inversion by fixed-point iteration (ReNoise, Garibi et al. 2024), and resampling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from diffusers import DDIMScheduler
from torch import Tensor

from actors.diffusion.conditioning import Conditioning
from actors.diffusion.fast_inversion import invert_fast
from actors.diffusion.inversion_config import UNGUIDED, InversionConfig
from actors.diffusion.noise_regularisation import NoiseRegulariser
from actors.diffusion.prediction import Denoiser, NoisePrediction
from actors.diffusion.row_order import RowOrder
from actors.diffusion.schedule import Schedule, ddim_inversion_step, ddim_step
from actors.diffusion.unet_cost import EARLY, iterated_evaluations

EARLY_RANGE, LATE_RANGE = (0, 5), (8, 10)
"""Iterations that are averaged, first one in and last one out, below and from `EARLY` on."""


@dataclass(frozen=True)
class Inversion:
    """Inverted latents.

    Attributes:
        latents: [B, C, h, w], z_t at the last timestep.
        trajectory: [B, k + 1, C, h, w] from z_0 to z_t, or None. Row j is the inversion by j steps.
        timesteps: the k timesteps visited, rising.
        unet_rows: int64 [B], UNet evaluations per sample.
        residual: [B], RMS of the last change of the fixed point over all steps: how far from converged it is.
        generators: of modes that were given seeds and use them, each sample's random stream where the inversion left
            it; or empty.
    """

    latents: Tensor
    trajectory: Tensor | None
    timesteps: tuple[int, ...]
    unet_rows: Tensor
    residual: Tensor
    generators: tuple[torch.Generator, ...] = ()


@torch.no_grad()
def invert(
    unet: Denoiser,
    scheduler: DDIMScheduler,
    latents: Tensor,
    conditioning: Conditioning,
    *,
    inference_steps: int = 50,
    inversion_steps: int = 10,
    method: InversionConfig = InversionConfig(),  # noqa: B008 (frozen)
    seeds: Sequence[int] | None = None,
    keep_trajectory: bool = False,
) -> Inversion:
    """Finds the noisy latent from which DDIM sampling leads back to `latents`.

    A step from timestep p to t solves x = g(unet(x, t)), which is implicit in x (Garibi et al. 2024, Eq. 7). The
    batch is computed in an order of its own, so that the order of the rows changes nothing at all; its shape is as
    given, and callers pad it to a fixed one where floats must not depend on the number of neighbours.

    Args:
        unet: see `actors.diffusion.prediction.Denoiser`; epsilon or v-prediction, as the scheduler is configured.
        scheduler: gives timesteps and cumulated alphas.
        latents: scaled image latents [B, C, h, w], float32 or float64.
        conditioning: prompts and guidance, one row per sample.
        inference_steps: steps of the whole DDIM schedule (50 in the paper).
        inversion_steps: steps k to invert (10 in the paper).
        method: see `InversionConfig`.
        seeds: one per sample; regularisation draws from them, nothing else does.
        keep_trajectory: also return the latents of every step.

    Raises:
        ValueError: guidance together with regularisation; no seeds for it, or not one per sample; more
            inversion steps than inference steps.
        ModelError: a scheduler that predicts neither noise nor velocity, or that does not have these steps.
    """
    iterations, averaging, _ = method.resolved
    regularised = method.regularised
    _check_latents(unet, latents)
    conditioning.check(len(latents))
    if conditioning.guided and not method.allows_guidance:
        raise ValueError(f"guidance_scale is {conditioning.guidance_scale}; allowed: {UNGUIDED}")
    drawn = None if seeds is None else [int(seed) for seed in seeds]
    if (drawn is None and regularised) or (drawn is not None and len(drawn) != len(latents)):
        raise ValueError(
            f"regularisation draws from one seed per sample: {len(latents)} samples, "
            f"{'no' if drawn is None else len(drawn)} seeds"
        )
    schedule = Schedule.of(scheduler, inference_steps=inference_steps, inversion_steps=inversion_steps)
    schedule = schedule.to(latents.device)
    order = RowOrder(latents, *conditioning.rows.values(), seeds=drawn if regularised else None)
    predict = NoisePrediction(unet, scheduler, conditioning[order.rows])
    start = order.sorted(latents)
    generators: tuple[torch.Generator, ...] = ()
    if method.mode == "fast":
        visited, residual = invert_fast(predict, schedule, start, extra=method.extra)
    else:
        regularise = None
        if drawn is not None:
            sorted_seeds = [drawn[row] for row in order.rows.tolist()]
            regularise = NoiseRegulariser(sorted_seeds, start.shape[1:], start.dtype, start.device)
            generators = tuple(order.restored_list(regularise.generators))
        visited, residual = _iterate(
            predict,
            schedule,
            start,
            iterations=iterations,
            averaging=averaging,
            regularise=regularise if regularised else None,
            noised=method.mode == "renoise",
        )
    rows = torch.full((len(latents),), predict.rows, dtype=torch.int64)
    trajectory = order.restored(torch.stack(visited, 1)) if keep_trajectory else None
    return Inversion(
        order.restored(visited[-1]),
        trajectory,
        schedule.timesteps,
        rows,
        order.restored(residual),
        generators,
    )


def _iterate(
    predict: NoisePrediction,
    schedule: Schedule,
    latents: Tensor,
    *,
    iterations: int,
    averaging: bool,
    regularise: NoiseRegulariser | None,
    noised: bool,
) -> tuple[list[Tensor], Tensor]:
    """The iteration of the published program, for a whole batch."""
    visited = [latents]
    square = torch.zeros(len(latents), dtype=latents.dtype, device=latents.device)
    for step, timestep in enumerate(schedule.timesteps):
        early = timestep < EARLY
        first, end = EARLY_RANGE if early else LATE_RANGE
        current = visited[-1]
        guess, last, wanted, mean = current, current, None, None
        for i in range(iterated_evaluations(timestep, iterations, regularised=False)):
            if regularise is not None and i == 0:
                forward = schedule.noised(latents, regularise.noise, step) if noised else latents
                wanted, noise = predict(torch.cat([forward, guess]), timestep).chunk(2)
            else:
                noise = predict(guess, timestep)
            if averaging and first <= i < end:
                made = i - first
                mean = noise if mean is None else made * mean / (made + 1) + noise / (made + 1)
            if regularise is not None and wanted is not None and (i >= first or (not averaging and i > 0)):
                noise = regularise(noise, wanted)
            last, guess = (
                guess,
                ddim_inversion_step(
                    current, noise, schedule.alpha_prod_prev[step], schedule.alpha_prod[step]
                ),
            )
        if mean is not None:
            if regularise is not None and wanted is not None:
                mean = regularise(mean, wanted)
            last, guess = (
                guess,
                ddim_inversion_step(current, mean, schedule.alpha_prod_prev[step], schedule.alpha_prod[step]),
            )
        square += (guess - last).square().mean((1, 2, 3))
        visited.append(guess)
    return visited, (square / len(schedule.timesteps)).sqrt()


@torch.no_grad()
def resample(
    unet: Denoiser,
    scheduler: DDIMScheduler,
    latents: Tensor,
    conditioning: Conditioning,
    *,
    inference_steps: int = 50,
    inversion_steps: int = 10,
) -> Tensor:
    """DDIM sampling of the last `inversion_steps` steps (Eq. 6 of the paper); arguments as in `invert`.

    Returns:
        [B, C, h, w], the latents at the schedule's end.

    Raises:
        ValueError: more inversion steps than inference steps; conditions that are not one row per sample.
        ModelError: a scheduler that predicts neither noise nor velocity, or that does not have these steps.
    """
    _check_latents(unet, latents)
    conditioning.check(len(latents))
    schedule = Schedule.of(scheduler, inference_steps=inference_steps, inversion_steps=inversion_steps)
    schedule = schedule.to(latents.device)
    order = RowOrder(latents, *conditioning.rows.values())
    predict = NoisePrediction(unet, scheduler, conditioning[order.rows])
    current = order.sorted(latents)
    for step in reversed(range(inversion_steps)):
        noise = predict(current, schedule.timesteps[step])
        current = ddim_step(current, noise, schedule.alpha_prod_prev[step], schedule.alpha_prod[step])
    return order.restored(current)


def _check_latents(unet: Denoiser, latents: Tensor) -> None:
    if latents.ndim != 4 or not latents.is_floating_point():
        raise ValueError(f"latents are {latents.dtype} {list(latents.shape)}; wanted: floats [B, C, h, w]")
    channels = getattr(getattr(unet, "config", None), "in_channels", latents.shape[1])
    if channels != latents.shape[1]:
        raise ValueError(f"the UNet takes latents of {channels} channels; these have {latents.shape[1]}")
