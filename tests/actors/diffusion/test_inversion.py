"""Inversion against the published program's outputs; its settings, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from actors.diffusion.conditioning import Conditioning
from actors.diffusion.inversion import invert, resample
from actors.diffusion.inversion_config import InversionConfig
from actors.diffusion.prompts import Prompts
from actors.diffusion.schedule import Schedule
from actors.diffusion.unet_cost import fast_evaluations, iterated_evaluations
from actors.errors import ModelError
from tests import tiny_sd
from tests.reference_renoise import Counted, advanced, renoise, sampled, steps_of

DDIM = InversionConfig(mode="published", iterations=0, averaging=False, regularisation=False)
PLAIN = InversionConfig(mode="published", iterations=4, averaging=False, regularisation=False)
GOLDEN = [("a_ddim", DDIM), ("b2_r4_noavg", PLAIN), ("d_r9_default", InversionConfig(mode="published"))]
IDS = [name for name, _ in GOLDEN]
NO_PROMPTS = Conditioning(Prompts(torch.zeros(1, 1, 1)))
"""Of a denoiser that takes none; one row, to be repeated."""
SINGLE = 1e-6
"""Bound of comparisons with the golden files, which hold the float32 time embedding of the CPU that made them."""
DOUBLE = 1e-10
"""Bound of float64 comparisons on one machine."""


@pytest.mark.parametrize(("name", "method"), GOLDEN, ids=IDS)
def test_equals_the_published_program(name, method):
    samples, scheduler = tiny_sd.golden_samples(), tiny_sd.scheduler()
    with np.load(tiny_sd.GOLDEN / f"{name}_10of50_float64.npz") as stored:
        golden = {key: stored[key] for key in stored.files}
    assert golden["seeds"].tolist() == samples.seeds
    found = invert(
        tiny_sd.published_unet(),
        scheduler,
        samples.latents,
        samples.conditioning,
        method=method,
        seeds=samples.seeds,
        keep_trajectory=True,
    )
    assert np.abs(found.trajectory.numpy() - golden["all_latents"]).max() < SINGLE
    assert torch.equal(found.trajectory[:, -1], found.latents)
    assert list(found.timesteps) == golden["timesteps"].tolist()
    assert found.unet_rows.dtype == torch.int64
    assert found.unet_rows.tolist() == golden["unet_rows"].tolist()
    probes = [int(torch.randint(0, 2**31 - 1, (1,), generator=one)) for one in found.generators]
    assert probes == golden["rng_probe_after"].tolist()
    back = resample(tiny_sd.published_unet(), scheduler, found.latents, samples.conditioning)
    assert np.abs(back.numpy() - golden["reconstruction"]).max() < SINGLE


@pytest.mark.parametrize(("name", "method"), GOLDEN, ids=IDS)
def test_equals_the_reference_on_the_golden_samples(name, method):
    """All steps of the golden files by the plain loop, with a time embedding that is the same on every machine."""
    row, samples, scheduler = 1, tiny_sd.golden_samples(), tiny_sd.scheduler()
    iterations, averaging, regularisation = method.resolved
    found = invert(
        tiny_sd.unet(),
        scheduler,
        samples.latents,
        samples.conditioning,
        method=method,
        seeds=samples.seeds,
        keep_trajectory=True,
    )
    predict = Counted(tiny_sd.denoise, samples.prompts[row : row + 1])
    wanted = renoise(
        predict,
        samples.latents[row : row + 1],
        samples.seeds[row],
        steps=steps_of(50, 10),
        iterations=iterations,
        averaging=averaging,
        regularisation=regularisation,
    )
    assert (found.trajectory[row] - wanted.trajectory).abs().max() < DOUBLE
    assert found.unet_rows[row] == wanted.evaluations
    if regularisation:
        assert torch.equal(found.generators[row].get_state(), wanted.generator.get_state())
    back = resample(tiny_sd.unet(), scheduler, found.latents, samples.conditioning)
    again = sampled(predict, found.latents[row : row + 1], steps=steps_of(50, 10))
    assert (back[row] - again[0]).abs().max() < DOUBLE


@pytest.mark.parametrize(
    ("name", "method", "steps"), [(*GOLDEN[0], 10), (*GOLDEN[1], 4), (*GOLDEN[2], 2)], ids=IDS
)
def test_the_reference_equals_the_published_program(name, method, steps):
    """One sample of the golden files by the plain loop that the other tests compare with."""
    row, samples = 2, tiny_sd.golden_samples()
    iterations, averaging, regularisation = method.resolved
    with np.load(tiny_sd.GOLDEN / f"{name}_10of50_float64.npz") as golden:
        wanted = golden["all_latents"][row, : steps + 1]
        back, evaluations = golden["reconstruction"][row], golden["unet_rows"][row] * steps // 10
    found = renoise(
        Counted(tiny_sd.denoise_as_published, samples.prompts[row : row + 1]),
        samples.latents[row : row + 1],
        samples.seeds[row],
        steps=steps_of(50, steps),
        iterations=iterations,
        averaging=averaging,
        regularisation=regularisation,
    )
    assert np.abs(found.trajectory.numpy() - wanted).max() < SINGLE
    assert found.evaluations == evaluations
    if steps == 10:
        predict = Counted(tiny_sd.denoise_as_published, samples.prompts[row : row + 1])
        again = sampled(predict, found.trajectory[-1:], steps=steps_of(50, 10))
        assert np.abs(again[0].numpy() - back).max() < SINGLE


@pytest.mark.parametrize(
    "method",
    [PLAIN, InversionConfig(mode="renoise", iterations=1), InversionConfig()],
    ids=lambda method: method.mode,
)
def test_a_trajectory_holds_every_shorter_inversion(method):
    samples, scheduler = tiny_sd.drawn_samples(2), tiny_sd.scheduler()

    def inverted(steps):
        return invert(
            tiny_sd.unet(),
            scheduler,
            samples.latents,
            samples.conditioning,
            inversion_steps=steps,
            method=method,
            seeds=samples.seeds,
            keep_trajectory=steps == 3,
        )

    longest = inverted(3)
    assert torch.equal(longest.trajectory[:, 0], samples.latents)
    for steps in (1, 2):
        shorter = inverted(steps)
        assert shorter.trajectory is None
        assert torch.equal(shorter.latents, longest.trajectory[:, steps])


@pytest.mark.parametrize("mode", ["raw", "function", "tuple"])
def test_kinds_of_denoisers(mode):
    net = tiny_sd.unet()
    unet = {
        "raw": net,
        "function": lambda latents, timestep, prompts: net(latents, timestep, prompts).sample,
        "tuple": lambda latents, timestep, prompts: net(latents, timestep, prompts, return_dict=False),
    }[mode]
    samples, scheduler = tiny_sd.drawn_samples(2), tiny_sd.scheduler()
    found = invert(unet, scheduler, samples.latents, samples.conditioning, inversion_steps=2, method=DDIM)
    for row in range(2):
        wanted = renoise(
            Counted(tiny_sd.denoise, samples.prompts[row : row + 1]),
            samples.latents[row : row + 1],
            steps=steps_of(50, 2),
            iterations=0,
            averaging=False,
            regularisation=False,
        )
        assert (found.latents[row] - wanted.trajectory[-1]).abs().max() < 1e-12
        back = sampled(
            Counted(tiny_sd.denoise, samples.prompts[row : row + 1]),
            wanted.trajectory[-1:],
            steps=steps_of(50, 2),
        )
        again = resample(unet, scheduler, found.latents, samples.conditioning, inversion_steps=2)[row]
        assert (again - back[0]).abs().max() < 1e-12


@pytest.mark.parametrize(
    "method",
    [
        DDIM,
        PLAIN,
        InversionConfig(mode="published", iterations=9, averaging=True, regularisation=False),
        InversionConfig(),
    ],
)
def test_constant_noise_is_inverted_exactly(method):
    """Then z_t = sqrt(abar_t) x + sqrt(1 - abar_t) e in closed form, and the way back is exact."""
    generator = torch.Generator().manual_seed(3)
    noise, start = torch.randn(2, 2, 4, 6, 10, generator=generator, dtype=torch.float64)
    constant = lambda latents, timestep, prompts: noise  # noqa: E731
    # Both rows have the same noise, so that it does not matter which of them the denoiser is asked for.
    noise[1] = noise[0]
    found = invert(constant, tiny_sd.scheduler(), start, NO_PROMPTS[[0, 0]], inversion_steps=7, method=method)
    assert found.timesteps == (1, 21, 41, 61, 81, 101, 121)
    stepped = start
    for _, before, after in steps_of(50, 7):
        stepped = advanced(stepped, noise, before, after)
    assert (found.latents - stepped).abs().max() < 1e-12
    alphas_cumprod = np.cumprod(1 - np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2)
    clean = (start - np.sqrt(1 - alphas_cumprod[0]) * noise) / np.sqrt(alphas_cumprod[0])
    wanted = np.sqrt(alphas_cumprod[121]) * clean + np.sqrt(1 - alphas_cumprod[121]) * noise
    assert torch.allclose(found.latents, wanted, rtol=0, atol=1e-6)
    back = resample(constant, tiny_sd.scheduler(), found.latents, NO_PROMPTS[[0, 0]], inversion_steps=7)
    assert torch.allclose(back, start, rtol=0, atol=1e-6)


def test_more_iterations_come_closer():
    samples, errors, few = tiny_sd.drawn_samples(2), [], {"inversion_steps": 3}
    for iterations in (0, 1, 4):
        method = InversionConfig(
            mode="published", iterations=iterations, averaging=False, regularisation=False
        )
        found = invert(
            tiny_sd.unet(), tiny_sd.scheduler(), samples.latents, samples.conditioning, method=method, **few
        )
        back = resample(tiny_sd.unet(), tiny_sd.scheduler(), found.latents, samples.conditioning, **few)
        errors.append((back - samples.latents).square().mean().sqrt().item())
    assert errors[0] > 3 * errors[1] > 9 * errors[2]


@pytest.mark.parametrize(
    "method",
    [
        InversionConfig(mode="published", iterations=2),
        InversionConfig(mode="renoise", iterations=9, averaging=False, regularisation=False),
        InversionConfig(extra=2),
    ],
)
def test_planned_evaluations_are_made(method):
    calls = 0

    def counted(latents, timestep, prompts):
        nonlocal calls
        calls += len(latents)
        return 0.1 * latents

    latents = torch.ones(3, 4, 8, 8, dtype=torch.float64).cumsum(3)
    found = invert(
        counted,
        tiny_sd.scheduler(),
        latents,
        NO_PROMPTS[[0, 0, 0]],
        inference_steps=10,
        inversion_steps=4,
        method=method,
        seeds=[1, 2, 3],
    )
    iterations, _, regularised = method.resolved
    planned = (
        sum(fast_evaluations(4, method.extra))
        if method.mode == "fast"
        else sum(iterated_evaluations(t, iterations, regularised=regularised) for t in (1, 101, 201, 301))
    )
    assert found.timesteps == (1, 101, 201, 301)
    assert found.unet_rows.tolist() == [planned] * 3
    assert calls == 3 * planned


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seeds": None}, "one seed per sample: 3 samples, no seeds"),
        ({"seeds": [1, 2]}, "one seed per sample: 3 samples, 2 seeds"),
        ({"method": DDIM, "seeds": [1, 2, 3, 4]}, "one seed per sample: 3 samples, 4 seeds"),
        ({"conditioning": NO_PROMPTS[[0, 0]]}, r"2 rows of prompts.embeds for 3 latents"),
        ({"inversion_steps": 0}, "inversion_steps is 0; allowed: 1 to 50"),
        ({"inversion_steps": 51}, "inversion_steps is 51; allowed: 1 to 50"),
        ({"inference_steps": 10, "inversion_steps": 11}, "inversion_steps is 11; allowed: 1 to 10"),
        (
            {"conditioning": tiny_sd.drawn_samples(3).guided(7.5)},
            r"guidance_scale is 7.5; allowed: 1 with regularised inversion.*NaN.*set inversion.regularisation to",
        ),
    ],
)
def test_impossible_inversions(changes, message):
    def untouched(latents, timestep, prompts):
        raise AssertionError("asked before the arguments were looked at")

    samples = tiny_sd.drawn_samples(3)
    arguments = {
        "latents": samples.latents,
        "conditioning": samples.conditioning,
        "method": InversionConfig(mode="published"),
        "seeds": samples.seeds,
    }
    with pytest.raises(ValueError, match=message):
        invert(untouched, tiny_sd.scheduler(), **(arguments | changes))


def test_impossible_resampling():
    samples = tiny_sd.drawn_samples(3)
    arguments = (tiny_sd.unet(), tiny_sd.scheduler(), samples.latents, samples.conditioning)
    with pytest.raises(ValueError, match="inversion_steps is 0; allowed: 1 to 50"):
        resample(*arguments, inversion_steps=0)


def test_unknown_prediction_is_refused():
    samples = tiny_sd.drawn_samples(1)
    arguments = (
        tiny_sd.unet(),
        tiny_sd.scheduler(prediction_type="sample"),
        samples.latents,
        samples.conditioning,
    )
    for work in (invert, resample):
        with pytest.raises(
            ModelError, match="prediction_type is 'sample'; allowed: epsilon and v_prediction"
        ):
            work(*arguments)


def test_schedule_of_stable_diffusion():
    schedule = Schedule.of(tiny_sd.scheduler(), inference_steps=50, inversion_steps=10)
    assert schedule.timesteps == (1, 21, 41, 61, 81, 101, 121, 141, 161, 181)
    assert schedule.alpha_prod[-1].item() == pytest.approx(0.782654, abs=1e-6)
    assert schedule.alpha_prod_prev[0].item() == pytest.approx(0.99915, abs=1e-6)
    assert torch.equal(schedule.alpha_prod_prev[1:], schedule.alpha_prod[:-1])


@pytest.mark.parametrize(("inference_steps", "steps"), [(50, 50), (20, 7), (10, 4), (1, 1)])
def test_schedule_of_other_lengths(inference_steps, steps):
    schedule = Schedule.of(tiny_sd.scheduler(), inference_steps=inference_steps, inversion_steps=steps)
    wanted = steps_of(inference_steps, steps)
    assert schedule.timesteps == tuple(t for t, _, _ in wanted)
    assert torch.equal(schedule.alpha_prod_prev, torch.stack([before for _, before, _ in wanted]))
    assert torch.equal(schedule.alpha_prod, torch.stack([after for _, _, after in wanted]))
