"""Inversion with few evaluations: extrapolated first guesses, Anderson acceleration, a fixed number per step.

Nothing depends on a tolerance, so the work is the same for every sample and a GPU never waits for the CPU. How the
number of evaluations was chosen, and what it is worth, stands in docs/inversion.md.
"""

from __future__ import annotations

import torch
from torch import Tensor

from actors.diffusion.prediction import NoisePrediction
from actors.diffusion.schedule import Schedule, ddim_inversion_step
from actors.diffusion.unet_cost import fast_evaluations

DEPTH = 2
"""Earlier evaluations of a step that Anderson acceleration combines with the last one."""

_RIDGE = 1e-10


def invert_fast(
    predict: NoisePrediction, schedule: Schedule, latents: Tensor, *, extra: int = 0
) -> tuple[list[Tensor], Tensor]:
    """Latents [B, C, h, w] from z_0 to z_t, k + 1 of them, and the residual [B].

    The residual is that of `actors.diffusion.inversion.Inversion`.

    Args:
        extra: evaluations of every step beyond those of `actors.diffusion.unet_cost.fast_evaluations`.
    """
    visited, noises, levels = [latents], list[Tensor](), list[Tensor]()
    square = torch.zeros(len(latents), dtype=latents.dtype, device=latents.device)
    sigmas = ((1 - schedule.alpha_prod) / schedule.alpha_prod).log().to(latents.dtype)
    for step, count in enumerate(fast_evaluations(len(schedule.timesteps), extra)):
        before, after = schedule.alpha_prod_prev[step], schedule.alpha_prod[step]
        current = visited[-1]
        expected = _extrapolated(noises, levels, sigmas[step])
        guess = current if expected is None else ddim_inversion_step(current, expected, before, after)
        guesses, changes = list[Tensor](), list[Tensor]()
        for _ in range(count):
            noise = predict(guess, schedule.timesteps[step])
            change = ddim_inversion_step(current, noise, before, after) - guess
            guesses, changes = [*guesses, guess][-DEPTH - 1 :], [*changes, change][-DEPTH - 1 :]
            last, guess = guess, anderson(guesses, changes)
        square += (guess - last).square().mean((1, 2, 3))
        visited.append(guess)
        if not schedule.still[step]:
            noises, levels = [*noises, noise_between(current, guess, before, after)], [*levels, sigmas[step]]
    return visited, (square / len(schedule.timesteps)).sqrt()


def anderson(guesses: list[Tensor], changes: list[Tensor]) -> Tensor:
    """The next guess of a fixed-point iteration by Anderson acceleration (Walker and Ni 2011, type II, undamped).

    Args:
        guesses: x_i [B, C, h, w], the latest last; at most three.
        changes: G(x_i) - x_i, the same shapes.

    Returns:
        [B, C, h, w]: of all combinations of G(x_i) with weights that add up to 1, the one whose changes, combined
        with the same weights, are smallest; every sample has weights of its own.
    """
    here = guesses[-1] + changes[-1]
    if len(guesses) == 1:
        return here
    moves = [changes[-1] - change for change in changes[:-1]]
    images = [here - guess - change for guess, change in zip(guesses[:-1], changes[:-1], strict=True)]
    weights = _least_squares(moves, changes[-1])
    return here - sum(
        (weight * image for weight, image in zip(weights, images, strict=True)), torch.zeros_like(here)
    )


def noise_between(current: Tensor, reached: Tensor, before: Tensor, after: Tensor) -> Tensor:
    """The noise that leads from `current` to `reached` in one step: `ddim_inversion_step` solved for it."""
    none, one = torch.zeros_like(before), torch.ones_like(before)
    of_latents = ddim_inversion_step(one, none, before, after)
    of_noise = ddim_inversion_step(none, one, before, after)
    return (reached - of_latents * current) / of_noise


def _extrapolated(noises: list[Tensor], levels: list[Tensor], level: Tensor) -> Tensor | None:
    """Noise at a level, on a line through the two before it in log sigma."""
    if len(noises) < 2:
        return noises[-1] if noises else None
    along = (level - levels[-1]) / (levels[-1] - levels[-2])
    return noises[-1] + along * (noises[-1] - noises[-2])


def _least_squares(moves: list[Tensor], change: Tensor) -> list[Tensor]:
    """Weights [B, 1, 1, 1] of one or two `moves` whose sum comes closest to `change`; where two point the same way,
    the first stands for both."""
    first = moves[0]
    weight = _share(first, change, first)
    if len(moves) == 1:
        return [weight]
    overlap = _share(first, moves[1], first)
    second_weight = _share(moves[1] - overlap * first, change - weight * first, moves[1])
    return [weight - overlap * second_weight, second_weight]


def _share(direction: Tensor, vector: Tensor, scale: Tensor) -> Tensor:
    """How much of `direction` there is in `vector`; 0 where hardly anything of `scale` is left in the direction."""
    square = _dot(direction, direction) + _RIDGE * _dot(scale, scale) + torch.finfo(scale.dtype).tiny
    return _dot(direction, vector) / square


def _dot(one: Tensor, other: Tensor) -> Tensor:
    return (one * other).sum((1, 2, 3), keepdim=True)
