"""Latent inversion by fixed-point iteration (ReNoise, Garibi et al. 2024), and resampling."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from diffusers import DDIMScheduler
from torch import Tensor

from actors.diffusion.fast_inversion import invert_fast
from actors.diffusion.noise_regularisation import NoiseRegulariser
from actors.diffusion.prediction import Denoiser, NoisePrediction
from actors.diffusion.row_order import RowOrder
from actors.diffusion.schedule import Schedule, cleaner, noisier
from actors.diffusion.unet_cost import EARLY, iterated_evaluations

EARLY_RANGE, LATE_RANGE = (0, 5), (8, 10)
"""Iterations that are averaged, first one in and last one out, below and from `EARLY` on."""


@dataclass(frozen=True)
class ReNoise:
    """How an inversion step's fixed point is found.

    Attributes:
        mode: `fast` extrapolates and accelerates, with a fixed number of evaluations per step; `published` equals the
            program published with ReNoise, also in that it regularises towards the noise of z_0 itself; `renoise` is
            the same with the noised image in its place, as the paper of ReNoise has it.
        iterations: re-evaluations per step, at most 5 below timestep 250; None is 9. 0, without the other two, is DDIM
            inversion.
        averaging: the mean of the noise over iterations makes the step; None is True.
        regularisation: the noise is regularised, see `actors.diffusion.noise_regularisation`; None is True.
        extra: of `fast`, further evaluations at every step, for nets that are far from a denoiser. Its own are 1, 5,
            2, and from the fourth step on 1: 15 for 10 steps.

    Raises:
        ValueError: a setting that the mode does not have, or a negative number of iterations.
    """

    mode: Literal["published", "renoise", "fast"] = "fast"
    iterations: int | None = None
    averaging: bool | None = None
    regularisation: bool | None = None
    extra: int = 0

    def __post_init__(self) -> None:
        if self.mode not in ("published", "renoise", "fast"):
            raise ValueError(f"no inversion mode {self.mode!r}; there are published, renoise, fast")
        given = [
            name for name in ("iterations", "averaging", "regularisation") if getattr(self, name) is not None
        ]
        if self.mode == "fast" and given:
            raise ValueError(f"mode fast has no {' and no '.join(given)}; published and renoise have")
        if self.mode != "fast" and self.extra:
            raise ValueError(f"mode {self.mode} has no extra; set iterations")
        if self.extra < 0:
            raise ValueError(f"extra is {self.extra}; allowed: 0 or more")
        if self.iterations is not None and self.iterations < 0:
            raise ValueError(f"iterations is {self.iterations}; allowed: 0 (DDIM inversion) or more")

    @property
    def regularised(self) -> bool:
        """Whether random draws, and so seeds, are needed."""
        return self.mode != "fast" and self.regularisation is not False

    @property
    def resolved(self) -> tuple[int, bool, bool]:
        """Iterations, averaging and regularisation with the mode's own defaults filled in."""
        return (
            9 if self.iterations is None else self.iterations,
            self.averaging is not False,
            self.regularisation is not False,
        )


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


@dataclass(frozen=True)
class _Conditions:
    """What a UNet is told beside the latents, in the order of the caller's rows; negatives only with guidance."""

    embeds: Tensor
    added: Mapping[str, Tensor]
    guidance_scale: float
    negative_embeds: Tensor | None
    negative_added: Mapping[str, Tensor]

    @classmethod
    def of(
        cls,
        embeds: Tensor,
        added: Mapping[str, Tensor] | None,
        guidance_scale: float,
        negative_embeds: Tensor | None,
        negative_added: Mapping[str, Tensor] | None,
    ) -> _Conditions:
        if guidance_scale <= 1:
            negative_embeds = negative_added = None
        return cls(embeds, added or {}, guidance_scale, negative_embeds, negative_added or {})

    @property
    def rows(self) -> dict[str, Tensor]:
        """Everything that has a row per sample, by the name of its argument."""
        found = {"prompt_embeds": self.embeds}
        found |= {f"added_cond_kwargs[{name!r}]": value for name, value in self.added.items()}
        if self.negative_embeds is not None:
            found["negative_prompt_embeds"] = self.negative_embeds
        negative = self.negative_added.items()
        return found | {f"negative_added_cond_kwargs[{name!r}]": value for name, value in negative}

    def check(self, unet: Denoiser, latents: Tensor) -> None:
        """Raises ValueError for what does not fit together, before any work."""
        if latents.ndim != 4 or not latents.is_floating_point():
            raise ValueError(
                f"latents are {latents.dtype} {list(latents.shape)}; wanted: floats [B, C, h, w]"
            )
        asked = getattr(getattr(unet, "config", None), "in_channels", latents.shape[1])
        if asked != latents.shape[1]:
            raise ValueError(f"the UNet takes latents of {asked} channels; these have {latents.shape[1]}")
        for name, value in self.rows.items():
            if len(value) != len(latents):
                raise ValueError(f"{len(value)} rows of {name} for {len(latents)} latents")
        if self.guidance_scale > 1 and set(self.added) != set(self.negative_added):
            raise ValueError(
                f"added_cond_kwargs has {sorted(self.added)}, negative_added_cond_kwargs has "
                f"{sorted(self.negative_added)}; guidance needs the same in both"
            )

    def bound(self, unet: Denoiser, scheduler: DDIMScheduler, order: RowOrder) -> NoisePrediction:
        """The UNet with these conditions, sorted."""
        return NoisePrediction(
            unet,
            scheduler,
            order.sorted(self.embeds),
            order.sorted_all(self.added),
            guidance_scale=self.guidance_scale,
            negative_embeds=order.sorted(self.negative_embeds),
            negative_added=order.sorted_all(self.negative_added),
        )


@torch.no_grad()
def invert(
    unet: Denoiser,
    scheduler: DDIMScheduler,
    latents: Tensor,
    prompt_embeds: Tensor,
    *,
    inference_steps: int = 50,
    inversion_steps: int = 10,
    method: ReNoise = ReNoise(),
    seeds: Sequence[int] | None = None,
    guidance_scale: float = 1.0,
    negative_prompt_embeds: Tensor | None = None,
    keep_trajectory: bool = False,
    added_cond_kwargs: Mapping[str, Tensor] | None = None,
    negative_added_cond_kwargs: Mapping[str, Tensor] | None = None,
) -> Inversion:
    """Finds the noisy latent from which DDIM sampling leads back to `latents`.

    A step from timestep p to t solves x = g(unet(x, t)), which is implicit in x (Garibi et al. 2024, Eq. 7). The
    batch is computed in an order of its own, so that the order of the rows changes nothing at all; its shape is as
    given, and callers pad it to a fixed one where floats must not depend on the number of neighbours.

    Args:
        unet: see `actors.diffusion.prediction.Denoiser`; epsilon or v-prediction, as the scheduler says.
        scheduler: gives timesteps and cumulated alphas.
        latents: scaled image latents [B, C, h, w], float32 or float64.
        prompt_embeds: text states [B, tokens, width].
        inference_steps: steps of the whole DDIM schedule (50 in the paper).
        inversion_steps: steps k to invert (10 in the paper).
        method: see `ReNoise`.
        seeds: one per sample; regularisation draws from them, nothing else does.
        guidance_scale: classifier-free guidance; at most 1 is none. Every evaluation then counts two rows.
        negative_prompt_embeds: [B, tokens, width], needed with guidance.
        keep_trajectory: also return the latents of every step.
        added_cond_kwargs, negative_added_cond_kwargs: further conditions by name, [B, ...] each (SDXL).

    Raises:
        ValueError: guidance together with regularisation; no seeds for it, or not one per sample; more
            inversion steps than inference steps.
        ModelError: a scheduler that predicts neither noise nor velocity, or that does not have these steps.
    """
    iterations, averaging, _ = method.resolved
    regularised = method.regularised
    negatives = (negative_prompt_embeds, negative_added_cond_kwargs)
    conditions = _Conditions.of(prompt_embeds, added_cond_kwargs, guidance_scale, *negatives)
    conditions.check(unet, latents)
    if regularised and guidance_scale > 1:
        raise ValueError(
            f"guidance_scale is {guidance_scale} with regularisation: the published program mixes up the rows of "
            "the two there and gives NaN, so there is nothing to be equal to; set regularisation=False, or mode fast"
        )
    drawn = None if seeds is None else [int(seed) for seed in seeds]
    if (drawn is None and regularised) or (drawn is not None and len(drawn) != len(latents)):
        raise ValueError(
            f"regularisation draws from one seed per sample: {len(latents)} samples, "
            f"{'no' if drawn is None else len(drawn)} seeds"
        )
    schedule = Schedule.of(scheduler, inference_steps=inference_steps, inversion_steps=inversion_steps)
    schedule = schedule.to(latents.device)
    order = RowOrder(latents, *conditions.rows.values(), seeds=drawn if regularised else None)
    predict = conditions.bound(unet, scheduler, order)
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
                noisier(current, noise, schedule.kept_before[step], schedule.kept_after[step]),
            )
        if mean is not None:
            if regularise is not None and wanted is not None:
                mean = regularise(mean, wanted)
            last, guess = guess, noisier(current, mean, schedule.kept_before[step], schedule.kept_after[step])
        square += (guess - last).square().mean((1, 2, 3))
        visited.append(guess)
    return visited, (square / len(schedule.timesteps)).sqrt()


@torch.no_grad()
def resample(
    unet: Denoiser,
    scheduler: DDIMScheduler,
    latents: Tensor,
    prompt_embeds: Tensor,
    *,
    inference_steps: int = 50,
    inversion_steps: int = 10,
    guidance_scale: float = 1.0,
    negative_prompt_embeds: Tensor | None = None,
    added_cond_kwargs: Mapping[str, Tensor] | None = None,
    negative_added_cond_kwargs: Mapping[str, Tensor] | None = None,
) -> Tensor:
    """DDIM sampling of the last `inversion_steps` steps (Eq. 6 of the paper); arguments as in `invert`.

    Returns:
        [B, C, h, w], the latents at the schedule's end.

    Raises:
        ValueError: more inversion steps than inference steps; conditions that are not one row per sample.
        ModelError: a scheduler that predicts neither noise nor velocity, or that does not have these steps.
    """
    negatives = (negative_prompt_embeds, negative_added_cond_kwargs)
    conditions = _Conditions.of(prompt_embeds, added_cond_kwargs, guidance_scale, *negatives)
    conditions.check(unet, latents)
    schedule = Schedule.of(scheduler, inference_steps=inference_steps, inversion_steps=inversion_steps)
    schedule = schedule.to(latents.device)
    order = RowOrder(latents, *conditions.rows.values())
    predict = conditions.bound(unet, scheduler, order)
    current = order.sorted(latents)
    for step in reversed(range(inversion_steps)):
        noise = predict(current, schedule.timesteps[step])
        current = cleaner(current, noise, schedule.kept_before[step], schedule.kept_after[step])
    return order.restored(current)
