"""Inversion against the published program's outputs, and against a plain loop in float64."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from torch import Tensor

from actors.inversion import invert, resample
from actors.schedule import Schedule

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.fixture(scope="module")
def scheduler() -> DDIMScheduler:
    return DDIMScheduler.from_pretrained(GOLDEN / "tiny_sd" / "scheduler")


@pytest.fixture(scope="module")
def unet():
    net = UNet2DConditionModel.from_pretrained(GOLDEN / "tiny_sd" / "unet").double().eval()
    net.requires_grad_(False)
    return lambda latents, timestep, prompts: net(latents, timestep, prompts, return_dict=False)[0]


@pytest.fixture(scope="module")
def inputs() -> dict[str, Tensor]:
    with np.load(GOLDEN / "inputs_16.npz") as stored:
        return {name: torch.from_numpy(stored[name]).double() for name in ("z0", "prompt_embeds")}


@pytest.mark.parametrize(("name", "iterations"), [("a_ddim", 0), ("b2_r4_noavg", 4)])
def test_equals_the_published_program(unet, scheduler, inputs, name, iterations):
    with np.load(GOLDEN / f"{name}_10of50_float64.npz") as golden:
        trajectory, back = golden["all_latents"], golden["reconstruction"]
        timesteps, rows = golden["timesteps"], golden["unet_rows"]
    found = invert(
        unet, scheduler, inputs["z0"], inputs["prompt_embeds"], iterations=iterations, keep_trajectory=True
    )
    assert np.abs(found.trajectory.numpy() - trajectory).max() < 1e-6
    assert list(found.timesteps) == list(timesteps)
    assert found.unet_rows.tolist() == rows.tolist()
    again = resample(unet, scheduler, found.latents, inputs["prompt_embeds"])
    assert np.abs(again.numpy() - back).max() < 1e-6


def test_rows_do_not_see_their_neighbours(unet, scheduler, inputs):
    together = invert(unet, scheduler, inputs["z0"], inputs["prompt_embeds"], iterations=2)
    alone = [
        invert(unet, scheduler, inputs["z0"][i : i + 1], inputs["prompt_embeds"][i : i + 1], iterations=2)
        for i in range(3)
    ]
    assert torch.allclose(together.latents, torch.cat([one.latents for one in alone]), rtol=0, atol=1e-9)
    assert torch.allclose(together.residual, torch.cat([one.residual for one in alone]), rtol=0, atol=1e-9)


def test_permuting_rows_moves_them_only(unet, scheduler, inputs):
    order = torch.tensor([2, 0, 1])
    straight = invert(unet, scheduler, inputs["z0"], inputs["prompt_embeds"], iterations=1).latents
    permuted = invert(
        unet, scheduler, inputs["z0"][order], inputs["prompt_embeds"][order], iterations=1
    ).latents
    assert torch.allclose(straight[order], permuted, rtol=0, atol=1e-12)


def test_exact_noise_is_inverted_exactly(scheduler):
    """For a denoiser that gives a constant noise, z_t = sqrt(abar_t) x + sqrt(1 - abar_t) e in closed form."""
    generator = torch.Generator().manual_seed(3)
    noise = torch.randn(2, 4, 6, 10, generator=generator, dtype=torch.float64)
    start = torch.randn(2, 4, 6, 10, generator=generator, dtype=torch.float64)
    constant = lambda latents, timestep, prompts: noise  # noqa: E731
    found = invert(constant, scheduler, start, torch.zeros(2, 1, 1), inversion_steps=7, iterations=0)
    betas = np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    kept = np.cumprod(1 - betas)
    first, last = kept[0], kept[121]
    clean = (start - np.sqrt(1 - first) * noise) / np.sqrt(first)
    wanted = np.sqrt(last) * clean + np.sqrt(1 - last) * noise
    assert found.timesteps == (1, 21, 41, 61, 81, 101, 121)
    assert torch.allclose(found.latents, wanted, atol=1e-5)
    back = resample(constant, scheduler, found.latents, torch.zeros(2, 1, 1), inversion_steps=7)
    assert torch.allclose(back, start, atol=1e-5)


def test_more_iterations_come_closer(unet, scheduler, inputs):
    errors = []
    for iterations in (0, 1, 4):
        found = invert(unet, scheduler, inputs["z0"], inputs["prompt_embeds"], iterations=iterations)
        back = resample(unet, scheduler, found.latents, inputs["prompt_embeds"])
        errors.append((back - inputs["z0"]).square().mean().sqrt().item())
    assert errors[0] > 3 * errors[1] > 9 * errors[2]


def test_schedule_of_stable_diffusion(scheduler):
    schedule = Schedule.of(scheduler, inference_steps=50, inversion_steps=10)
    assert schedule.timesteps == (1, 21, 41, 61, 81, 101, 121, 141, 161, 181)
    assert schedule.kept_after[-1].item() == pytest.approx(0.782654, abs=1e-6)
    assert schedule.kept_before[0].item() == pytest.approx(0.99915, abs=1e-6)


@pytest.mark.parametrize("steps", [0, 51])
def test_impossible_number_of_steps(scheduler, steps):
    with pytest.raises(ValueError, match=f"inversion_steps is {steps}; allowed: 1 to 50"):
        Schedule.of(scheduler, inference_steps=50, inversion_steps=steps)
