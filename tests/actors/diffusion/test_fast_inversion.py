"""The fast inversion: few evaluations, and close to the fixed point."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from actors.diffusion.conditioning import Conditioning
from actors.diffusion.fast_inversion import anderson, noise_between
from actors.diffusion.inversion import invert, resample
from actors.diffusion.inversion_config import InversionConfig
from actors.diffusion.model import DiffusionModel
from actors.diffusion.prompts import Prompts
from actors.diffusion.schedule import Schedule, ddim_inversion_step
from actors.diffusion.unet_cost import fast_evaluations
from tests import tiny_sd
from tinytown.render import render
from tinytown.scene import caption, sample_scene

NO_PROMPTS = Conditioning(Prompts(torch.zeros(2, 1, 1)))
PLAIN = InversionConfig(mode="published", iterations=4, averaging=False, regularisation=False)


def test_evaluations_of_every_step():
    assert fast_evaluations(10) == (1, 5, 2, 1, 1, 1, 1, 1, 1, 1)
    assert sum(fast_evaluations(10)) == 15
    assert [fast_evaluations(steps) for steps in (1, 2, 3)] == [(1,), (1, 5), (1, 5, 2)]
    assert fast_evaluations(4, extra=2) == (3, 7, 4, 3)


@pytest.mark.parametrize("extra", [0, 1, 4])
def test_evaluations_are_made_step_by_step(extra):
    asked = []

    def unet(latents, timestep, prompts):
        asked.append(timestep)
        return 0.5 * latents.sin()

    found = invert(
        unet,
        tiny_sd.scheduler(),
        tiny_sd.drawn_samples(2).latents,
        NO_PROMPTS,
        method=InversionConfig(extra=extra),
    )
    assert tuple(asked.count(t) for t in found.timesteps) == fast_evaluations(10, extra)
    assert asked == sorted(asked)
    assert found.unet_rows.tolist() == [15 + 10 * extra] * 2
    assert found.generators == ()


def test_seeds_change_nothing():
    samples = tiny_sd.drawn_samples(2)
    found = [
        invert(
            tiny_sd.unet(),
            tiny_sd.scheduler(),
            samples.latents,
            samples.conditioning,
            inversion_steps=3,
            seeds=seeds,
        )
        for seeds in (None, [1, 2], [2, 1])
    ]
    assert torch.equal(found[0].latents, found[1].latents)
    assert torch.equal(found[0].latents, found[2].latents)


def linear_case(contraction: float, steps: int) -> tuple[object, Tensor, Tensor]:
    """A denoiser e = M x, latents [2, 4, 4, 4], and the exact solution, x = a z + c M x at every step.

    M is symmetric with eigenvalues from 0 to `contraction` / c of the steepest step, so that plain iteration has that
    factor there.
    """
    generator = torch.Generator().manual_seed(1)
    schedule = Schedule.of(tiny_sd.scheduler(), inference_steps=50, inversion_steps=steps)
    factors = tiny_sd.coefficients(schedule)
    basis = torch.linalg.qr(torch.randn(64, 64, generator=generator, dtype=torch.float64)).Q
    largest = contraction / max(c for _, c in factors)
    matrix = basis @ torch.diag(torch.linspace(0, largest, 64, dtype=torch.float64)) @ basis.T
    latents = torch.randn(2, 4, 4, 4, generator=generator, dtype=torch.float64)
    exact = latents.flatten(1)
    for a, c in factors:
        exact = torch.linalg.solve(torch.eye(64, dtype=torch.float64) - c * matrix, a * exact.T).T
    unet = lambda latents, timestep, prompts: (latents.flatten(1) @ matrix.T).view_as(latents)  # noqa: E731
    return unet, latents, exact.view_as(latents)


def error(unet, latents: Tensor, exact: Tensor, steps: int, method: InversionConfig) -> tuple[float, int]:
    """Relative to the latents, and how many evaluations it took."""
    found = invert(unet, tiny_sd.scheduler(), latents, NO_PROMPTS, inversion_steps=steps, method=method)
    return ((found.latents - exact).norm() / exact.norm()).item(), int(found.unet_rows[0])


@pytest.mark.parametrize(("evaluations", "gain"), [(3, 4), (5, 10)])
def test_linear_denoiser_with_as_many_evaluations(evaluations, gain):
    """One step, so that only the acceleration tells the two apart."""
    case = linear_case(0.7, 1)
    fast, few = error(*case, 1, InversionConfig(extra=evaluations - 1))
    plain, many = error(
        *case,
        1,
        InversionConfig(mode="published", iterations=evaluations - 1, averaging=False, regularisation=False),
    )
    assert few == many == evaluations
    assert fast < plain / gain


def test_linear_denoiser_over_ten_steps():
    case = linear_case(0.7, 10)
    fast, few = error(*case, 10, InversionConfig(extra=1))
    plain, many = error(*case, 10, PLAIN)
    assert (few, many) == (25, 50)
    assert fast < plain / 10


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("factor", [0.0, 1.0, 10.0, -8.0])
@pytest.mark.parametrize("extra", [0, 2, 6])
def test_changes_on_one_line(factor, extra, dtype):
    """e = s x contracts all latent pixels alike, so every change is a multiple of the first, or none is left."""
    latents = torch.full((2, 4, 8, 8), 3, dtype=dtype)
    latents[1] = 0
    found = invert(
        lambda latents, timestep, prompts: factor * latents,
        tiny_sd.scheduler(),
        latents,
        NO_PROMPTS,
        method=InversionConfig(extra=extra),
    )
    assert found.latents.isfinite().all()
    assert found.residual.isfinite().all()
    assert not found.latents[1].any()
    if extra:
        schedule = Schedule.of(tiny_sd.scheduler(), inference_steps=50, inversion_steps=10)
        exact = 3 * np.prod([a / (1 - c * factor) for a, c in tiny_sd.coefficients(schedule)])
        assert found.latents[0].double().mean().item() == pytest.approx(exact, rel=1e-3)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_converged_samples_stay_where_they_are(dtype):
    """Of two samples one has nothing left to change, as with a noise that does not depend on the latent."""
    constant = tiny_sd.drawn_samples(1).latents.to(dtype)

    def unet(latents, timestep, prompts):
        return torch.where(prompts[:, :, :, None] > 0, constant, latents.sin())

    latents = tiny_sd.drawn_samples(2, seed=1).latents.to(dtype)
    prompts = Conditioning(Prompts(torch.tensor([1.0, -1.0]).view(2, 1, 1)))
    found = invert(unet, tiny_sd.scheduler(), latents, prompts, method=InversionConfig(extra=8))
    stepped = invert(
        unet,
        tiny_sd.scheduler(),
        latents,
        prompts,
        method=InversionConfig(mode="published", iterations=0, averaging=False, regularisation=False),
    )
    assert found.latents.isfinite().all()
    assert found.residual.isfinite().all()
    assert torch.allclose(
        found.latents[0], stepped.latents[0], rtol=0, atol=1e-12 if dtype == torch.float64 else 1e-5
    )


def test_anderson_by_hand():
    """G(x) = x / 2 + 1 from 0: G gives 1 and 1.5, and the line through both changes ends in the fixed point 2."""
    guess = lambda *values: torch.tensor(values, dtype=torch.float64).view(-1, 1, 1, 1)  # noqa: E731
    assert anderson([guess(0.0)], [guess(1.0)]).item() == 1
    assert anderson([guess(0.0), guess(1.0)], [guess(1.0), guess(0.5)]).item() == pytest.approx(2, abs=1e-8)
    both = anderson([guess(0.0, 5.0), guess(1.0, 4.0)], [guess(1.0, 0.0), guess(0.5, -1.0)])
    assert both.flatten().tolist() == pytest.approx([2, 5], abs=1e-8)


def test_anderson_solves_what_has_two_contraction_factors():
    """Two earlier changes suffice for a linear map of two eigenvalues; fixed point b / (1 - lambda)."""
    factors = torch.tensor([0.7, -0.3], dtype=torch.float64).repeat(8).view(1, 1, 4, 4)
    shift = tiny_sd.drawn_samples(1, 4, 4).latents[:, :1]
    guesses, changes = [torch.zeros_like(shift)], []
    for _ in range(3):
        changes.append(factors * guesses[-1] + shift - guesses[-1])
        guesses.append(anderson(guesses[-3:], changes[-3:]))
    assert torch.allclose(guesses[-1], shift / (1 - factors), rtol=0, atol=1e-7)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10**6), st.integers(1, 4), st.integers(1, 3))
def test_anderson_is_the_least_squares_solution(seed, rows, depth):
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(2, depth, rows, 2, 3, 4, generator=generator, dtype=torch.float64)
    guesses, changes = list(drawn[0]), list(drawn[1])
    found = anderson(guesses, changes).numpy()
    for row in range(rows):
        xs, fs = (np.stack([one[row].numpy().ravel() for one in these]) for these in (guesses, changes))
        wanted = xs[-1] + fs[-1]
        if depth > 1:
            weights = np.linalg.lstsq((fs[-1] - fs[:-1]).T, fs[-1], rcond=None)[0]
            wanted = wanted - weights @ (xs[-1] + fs[-1] - xs[:-1] - fs[:-1])
        np.testing.assert_allclose(found[row].ravel(), wanted, rtol=0, atol=1e-7)


def test_noise_between_two_latents():
    latents, noise = tiny_sd.drawn_samples(2).latents.float()
    before, after = torch.tensor(0.98), torch.tensor(0.9)
    reached = ddim_inversion_step(latents, noise, before, after)
    assert torch.allclose(noise_between(latents, reached, before, after), noise, rtol=0, atol=1e-5)


def test_closer_than_four_iterations_on_the_shipped_model():
    """Mean and maximum over four scenes, inverted by 5 and 10 steps and resampled."""
    model = DiffusionModel("tinytown")
    scenes = [sample_scene(seed) for seed in range(500, 504)]
    latents = model.encode(np.stack([render(scene).image for scene in scenes]))
    prompts = Conditioning(model.embed([caption(scene) for scene in scenes]))
    errors = {}
    for method in (InversionConfig(), PLAIN):
        trajectory = invert(
            model.unet,
            model.scheduler,
            latents,
            prompts,
            inversion_steps=10,
            method=method,
            keep_trajectory=True,
        ).trajectory
        for steps in (5, 10):
            back = resample(model.unet, model.scheduler, trajectory[:, steps], prompts, inversion_steps=steps)
            errors[method, steps] = (back - latents).square().mean((1, 2, 3)).sqrt()
    for steps in (5, 10):
        fast, plain = errors[InversionConfig(), steps], errors[PLAIN, steps]
        assert fast.mean() <= plain.mean()
        assert fast.max() <= plain.max()
