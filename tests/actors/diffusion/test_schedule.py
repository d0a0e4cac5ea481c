"""DDIM schedules of all spacings: steps that meet, and steps that have no inverse."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from actors.diffusion.inversion import invert, resample
from actors.diffusion.inversion_config import InversionConfig
from actors.diffusion.model import DiffusionModel
from actors.diffusion.schedule import Schedule, ddim_inversion_step, ddim_step
from actors.errors import ModelError
from tests import tiny_sd
from tests.model_folders import edit

TINY = Path(__file__).parents[2] / "golden" / "tiny_sd"
TRAILING = {"timestep_spacing": "trailing"}
ZERO = {**TRAILING, "rescale_betas_zero_snr": True}
COUNTS = [1, 3, 7, 24, 30, 33, 50, 64, 77, 150, 333, 700, 999, 1000]


def alphas() -> np.ndarray:
    """alpha_bar of Stable Diffusion in float64."""
    return np.cumprod(1 - np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2)


@pytest.mark.parametrize("inference_steps", COUNTS)
def test_neighbouring_steps_meet(inference_steps: int):
    steps = max(1, inference_steps - 1)
    schedule = Schedule.of(
        tiny_sd.scheduler(**TRAILING), inference_steps=inference_steps, inversion_steps=steps
    )
    assert torch.equal(schedule.alpha_prod_prev[1:], schedule.alpha_prod[:-1])
    wanted = [round(1000 - i * 1000 / inference_steps) - 1 for i in range(inference_steps)][::-1][:steps]
    assert np.abs(np.array(schedule.timesteps) - wanted).max() <= 1, "rounding of halves apart"
    assert np.allclose(schedule.alpha_prod, alphas()[list(schedule.timesteps)], rtol=1e-4)
    assert schedule.alpha_prod_prev[0] == tiny_sd.scheduler().final_alpha_cumprod


@pytest.mark.parametrize("inference_steps", [30, 33, 50, 7])
def test_sampling_undoes_inversion_with_constant_noise(inference_steps: int):
    """With the same noise at every step each step of sampling is the exact inverse of that of inversion."""
    noise, latents = torch.randn(
        2, 1, 4, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )
    schedule = Schedule.of(
        tiny_sd.scheduler(**TRAILING), inference_steps=inference_steps, inversion_steps=inference_steps
    )
    pairs = list(zip(schedule.alpha_prod_prev.double(), schedule.alpha_prod.double(), strict=True))
    current = latents
    for before, after in pairs:
        current = ddim_inversion_step(current, noise, before, after)
    last = pairs[-1][1]
    first = pairs[0][0]
    clean = (latents - (1 - first).sqrt() * noise) / first.sqrt()
    assert torch.allclose(current, last.sqrt() * clean + (1 - last).sqrt() * noise, atol=1e-10)
    for before, after in reversed(pairs):
        current = ddim_step(current, noise, before, after)
    assert torch.allclose(current, latents, atol=1e-10)


def test_a_round_trip_through_a_network_with_trailing_steps():
    """30 steps do not divide 1000; the converged inversion leads back."""
    samples = tiny_sd.drawn_samples(1)
    settings: dict[str, Any] = {"inference_steps": 30, "inversion_steps": 5}
    scheduler = tiny_sd.scheduler(**TRAILING)
    found = invert(
        tiny_sd.unet(),
        scheduler,
        samples.latents,
        samples.conditioning,
        method=InversionConfig(extra=40),
        **settings,
    )
    back = resample(tiny_sd.unet(), scheduler, found.latents, samples.conditioning, **settings)
    assert (back - samples.latents).abs().max() < 1e-5


@pytest.mark.parametrize("changes", [{}, TRAILING, {"steps_offset": 0}])
@pytest.mark.parametrize("inference_steps", COUNTS)
def test_timesteps_are_those_of_diffusers(changes: dict[str, Any], inference_steps: int):
    scheduler = tiny_sd.scheduler(**changes)
    scheduler.set_timesteps(inference_steps)
    wanted = scheduler.timesteps.tolist()[::-1][: inference_steps - 1] or scheduler.timesteps.tolist()
    schedule = Schedule.of(scheduler, inference_steps=inference_steps, inversion_steps=len(wanted))
    assert list(schedule.timesteps) == wanted


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_pure_noise_cannot_be_inverted(prediction: str):
    scheduler = tiny_sd.scheduler(**ZERO, prediction_type=prediction)
    assert scheduler.alphas_cumprod[-1] == 0
    with pytest.raises(
        ModelError,
        match=r"inversion step 50 ends at timestep 999; alpha_bar is 0 there .*cannot be inverted: "
        r"set corruption\.inversion_steps and corruption\.deeper to at most 49",
    ):
        Schedule.of(scheduler, inference_steps=50, inversion_steps=50)
    schedule = Schedule.of(scheduler, inference_steps=50, inversion_steps=49)
    assert schedule.timesteps[-1] == 979 and bool((schedule.alpha_prod > 0).all())


@pytest.mark.parametrize(
    ("changes", "inference_steps", "inversion_steps", "message"),
    [
        (
            {},
            1000,
            1000,
            "step 1000 ends at timestep 1000; the scheduler has timesteps 0 to 999: .*at most 999",
        ),
        (
            {"num_train_timesteps": 20},
            50,
            10,
            "has 20 training timesteps and 50 inference steps .*at most 20",
        ),
        (ZERO, 1, 1, "alpha_bar is 0 there .*: take more corruption.inference_steps"),
        ({**TRAILING, "trained_betas": [0.01] * 900 + [1.0] * 100}, 10, 10, "alpha_bar is 0 .*to at most 9"),
        ({**TRAILING, "beta_schedule": "linear", "beta_end": 1.0}, 50, 50, "alpha_bar is 0 there"),
    ],
)
def test_steps_that_the_schedule_does_not_have(changes, inference_steps, inversion_steps, message):
    scheduler = tiny_sd.scheduler.__wrapped__(**changes)
    with pytest.raises(ModelError, match=message):
        Schedule.of(scheduler, inference_steps=inference_steps, inversion_steps=inversion_steps)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_train_timesteps": "1000"}, "num_train_timesteps '1000', which has no meaning"),
        ({"num_train_timesteps": 0}, "num_train_timesteps 0"),
        ({"num_train_timesteps": 10**9}, "num_train_timesteps 1000000000"),
        ({"beta_start": None}, "beta_start None"),
        ({"beta_end": -1}, "beta_end -1"),
        ({"beta_start": float("nan")}, "is not JSON .NaN is not a number"),
        ({"trained_betas": "none"}, "trained_betas that are not numbers"),
        ({"trained_betas": [0.1, 0.2]}, "2 trained_betas for 1000 timesteps"),
        ({"timestep_spacing": "karras"}, "timestep_spacing 'karras'; known: leading, trailing, linspace"),
        ({"set_alpha_to_one": "no"}, "set_alpha_to_one 'no'"),
        ({"rescale_betas_zero_snr": "yes"}, "rescale_betas_zero_snr 'yes'"),
        ({"prediction_type": ["epsilon"]}, "scheduler predicts"),
        ({"beta_schedule": {"a": 1}}, "beta_schedule"),
    ],
)
def test_scheduler_settings_without_meaning(changes: dict[str, Any], message: str, tmp_path: Path):
    folder = Path(shutil.copytree(TINY, tmp_path / "sd"))
    edit(folder / "scheduler" / "scheduler_config.json", **changes)
    with pytest.raises(ModelError, match=message):
        DiffusionModel(str(folder))


def test_absent_numbers_of_timesteps_are_a_thousand(tmp_path: Path):
    folder = Path(shutil.copytree(TINY, tmp_path / "sd"))
    path = folder / "scheduler" / "scheduler_config.json"
    config = json.loads(path.read_text())
    del config["num_train_timesteps"]
    path.write_text(json.dumps(config))
    assert len(DiffusionModel(str(folder)).scheduler.alphas_cumprod) == 1000
