"""The noise schedule that a scheduler folder describes: DDIM's settings and timesteps. No torch here."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from actors.errors import ModelError

BETA_SCHEDULES = ("linear", "scaled_linear", "squaredcos_cap_v2")
PREDICTIONS = ("epsilon", "v_prediction")
SPACINGS = ("leading", "trailing", "linspace")
_ADVICE = "correct scheduler/scheduler_config.json, or save or download it again"


def ddim_config(model: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of DDIM on the noise schedule of any scheduler folder.

    SD 1.5 comes with a PNDM configuration and SDXL with an Euler one, so some settings of DDIM may be absent; they
    get the values that all Stable Diffusion folders hold, not DDIM's own defaults, which clip latents and end at
    an alpha of one. `linspace` is Euler's own default spacing; DDIM's steps do not meet on it, so it becomes `leading`,
    and `leading` steps are offset by 1, as diffusers' pipelines demand: from 0 on, the first step would be none.

    Args:
        model: its name, for messages.
        config: the content of `scheduler_config.json`.

    Raises:
        ModelError: a setting is unknown, of the wrong type, or out of range.
    """
    kind, betas = config.get("_class_name", "a scheduler"), config.get("beta_schedule")
    if config.get("trained_betas") is None and betas not in BETA_SCHEDULES:
        raise ModelError(
            f"{model}: its scheduler ({kind}) has beta_schedule {betas!r}; known: {', '.join(BETA_SCHEDULES)}"
        )
    prediction = config.get("prediction_type", "epsilon")
    if prediction not in PREDICTIONS:
        raise ModelError(f"{model}: its scheduler predicts {prediction!r}; known: {', '.join(PREDICTIONS)}")
    settings = {
        "num_train_timesteps": 1000,
        "set_alpha_to_one": False,
        "steps_offset": 1,
        "timestep_spacing": "leading",
        **config,
    }
    if settings["timestep_spacing"] not in SPACINGS:
        raise ModelError(
            f"{model}: its scheduler has timestep_spacing {settings['timestep_spacing']!r}; known: "
            f"{', '.join(SPACINGS)}"
        )
    if settings["timestep_spacing"] != "trailing":
        settings |= {"steps_offset": 1, "timestep_spacing": "leading"}
    _check_numbers(model, settings)
    return {**settings, "clip_sample": False, "thresholding": False}


def timesteps(config: Mapping[str, Any], inference_steps: int) -> list[int]:
    """The timesteps that DDIM visits, rising, as `DDIMScheduler.set_timesteps` computes them.

    Args:
        config: of a `DDIMScheduler`, with `leading` or `trailing` spacing.
        inference_steps: of the whole schedule, at most the number of training timesteps.

    Raises:
        ModelError: more inference steps than training timesteps; another spacing.
    """
    trained, spacing = config["num_train_timesteps"], config["timestep_spacing"]
    if inference_steps > trained:
        raise ModelError(
            f"the scheduler has {trained} training timesteps and {inference_steps} inference steps are required: set "
            f"corruption.inference_steps to at most {trained}"
        )
    if spacing == "leading":
        return [
            step * (trained // inference_steps) + config["steps_offset"] for step in range(inference_steps)
        ]
    if spacing == "trailing":
        falling = np.round(np.arange(trained, 0, -trained / inference_steps)).astype(np.int64) - 1
        return [int(t) for t in falling[:inference_steps][::-1]]
    raise ModelError(f"the scheduler has timestep_spacing {spacing!r}; supported: leading, trailing")


def check_inversion_steps(
    model: str, config: Mapping[str, Any], *, inference_steps: int, inversion_steps: int
) -> None:
    """Refuses steps that the schedule cannot invert: the rule of `actors.diffusion.schedule`, before any weights are read.

    Args:
        model: its name, for messages.
        config: from `ddim_config`.
        inference_steps: of the whole schedule.
        inversion_steps: the largest k.

    Raises:
        ModelError: a step ends beyond the schedule, or where alpha_bar is 0.
    """
    visited = timesteps(config, inference_steps)[:inversion_steps]
    check_visited(model, visited, end=config["num_train_timesteps"], zero_from=_zero_from(config))


def check_visited(model: str, visited: list[int], *, end: int, zero_from: int) -> None:
    """Refuses timesteps, rising, from `end` on (they do not exist) and from `zero_from` on (alpha_bar is 0 there).

    At alpha_bar = 0 the latent is pure noise: the DDIM step divides by sqrt(alpha_bar), so it has no inverse.

    Raises:
        ModelError: with the largest number of inversion steps that is possible.
    """
    limit = min(end, zero_from)
    if visited[-1] < limit:
        return
    possible = sum(t < limit for t in visited)
    reason = (
        f"the scheduler has timesteps 0 to {end - 1}"
        if visited[-1] >= end
        else "alpha_bar is 0 there (zero terminal SNR, pure noise), and such a step cannot be inverted"
    )
    advice = f"set corruption.inversion_steps and corruption.deeper to at most {possible}"
    if not possible:
        advice = "take more corruption.inference_steps"
    raise ModelError(
        f"{model}: inversion step {len(visited)} ends at timestep {visited[-1]}; {reason}: {advice}"
    )


def _zero_from(config: Mapping[str, Any]) -> int:
    """The first timestep with alpha_bar = 0; the number of timesteps where there is none."""
    trained = int(config["num_train_timesteps"])
    if config.get("rescale_betas_zero_snr"):
        return trained - 1
    betas = config.get("trained_betas")
    if betas is not None:
        return next((t for t, beta in enumerate(betas) if beta >= 1), trained)
    capped = config.get("beta_schedule") == "squaredcos_cap_v2"
    return trained - 1 if not capped and config.get("beta_end", 0.02) >= 1 else trained


def _check_numbers(model: str, settings: Mapping[str, Any]) -> None:
    wrong = [
        (name, value)
        for name, least in (("num_train_timesteps", 1), ("steps_offset", 0))
        if not _whole(value := settings.get(name, 1000), least)
    ]
    wrong += [
        (name, value)
        for name in ("beta_start", "beta_end")
        if not _fraction(value := settings.get(name, 0.02))
    ]
    wrong += [
        (name, value)
        for name in ("set_alpha_to_one", "rescale_betas_zero_snr")
        if not isinstance(value := settings.get(name, False), bool)
    ]
    if wrong:
        name, value = wrong[0]
        raise ModelError(f"{model}: its scheduler has {name} {value!r}, which has no meaning: {_ADVICE}")
    betas = settings.get("trained_betas")
    if betas is None:
        return
    if not isinstance(betas, list) or not all(_fraction(beta) for beta in betas):
        raise ModelError(
            f"{model}: its scheduler has trained_betas that are not numbers from 0 to 1: {_ADVICE}"
        )
    if len(betas) != settings["num_train_timesteps"]:
        raise ModelError(
            f"{model}: its scheduler has {len(betas)} trained_betas for {settings['num_train_timesteps']} "
            f"timesteps: {_ADVICE}"
        )


def _whole(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= 100_000


def _fraction(value: Any) -> bool:
    return (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and math.isfinite(value)
        and 0 <= value <= 1
    )
