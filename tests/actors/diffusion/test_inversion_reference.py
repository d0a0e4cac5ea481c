"""Every mode of the inversion, guidance, v-prediction and further conditions, against a plain loop in float64."""

from __future__ import annotations

import pytest
import torch

from actors.diffusion.conditioning import Conditioning
from actors.diffusion.inversion import Inversion, invert, resample
from actors.diffusion.inversion_config import InversionConfig
from actors.diffusion.prompts import Prompts
from actors.diffusion.unet_cost import fast_evaluations
from tests import tiny_sd
from tests.reference_renoise import Counted, Found, fast, renoise, sampled, steps_of

PLAIN = InversionConfig(mode="published", iterations=2, averaging=False, regularisation=False)
METHODS = [
    PLAIN,
    InversionConfig(mode="published", iterations=2, averaging=True, regularisation=False),
    InversionConfig(mode="renoise", iterations=2),
    InversionConfig(),
]
NAMES = ["plain", "averaged", "regularised", "fast"]
ALL_METHODS = pytest.mark.parametrize("method", METHODS, ids=NAMES)
GUIDABLE = pytest.mark.parametrize(
    "method", [METHODS[0], METHODS[1], METHODS[3]], ids=["plain", "averaged", "fast"]
)

VELOCITY = {"prediction_type": "v_prediction"}
STEPS = {"inference_steps": 5, "inversion_steps": 3}
"""Timesteps 1, 201 and, beyond the one from which on ReNoise iterates further, 401."""


def looped(
    predict: Counted, samples: tiny_sd.Samples, row: int, method: InversionConfig, steps=STEPS
) -> Found:
    """One row of a batch by the reference."""
    schedule = steps_of(steps["inference_steps"], steps["inversion_steps"])
    start = samples.latents[row : row + 1]
    if method.mode == "fast":
        evaluations = list(fast_evaluations(len(schedule), method.extra))
        return fast(predict, start, steps=schedule, evaluations=evaluations)
    iterations, averaging, regularisation = method.resolved
    return renoise(
        predict,
        start,
        samples.seeds[row],
        steps=schedule,
        iterations=iterations,
        averaging=averaging,
        regularisation=regularisation,
        forward=method.mode == "renoise",
    )


def inverted(
    unet, scheduler, samples: tiny_sd.Samples, method: InversionConfig, conditioning=None, steps=STEPS
) -> Inversion:
    return invert(
        unet,
        scheduler,
        samples.latents,
        conditioning or samples.conditioning,
        method=method,
        seeds=samples.seeds,
        keep_trajectory=True,
        **steps,
    )


def assert_same(found: Inversion, wanted: Found, row: int, method: InversionConfig) -> None:
    """`fast` computes some factors in float32 and least squares by normal equations, hence its wider margin."""
    margin = 1e-7 if method.mode == "fast" else 1e-9
    assert (found.trajectory[row] - wanted.trajectory).abs().max() < margin
    assert found.unet_rows[row] == wanted.evaluations
    assert found.residual[row].item() == pytest.approx(wanted.residual, rel=1e-5, abs=margin)
    if method.mode != "fast":
        assert torch.equal(found.generators[row].get_state(), wanted.generator.get_state())


def waves(latents, timestep, prompts):
    """A denoiser that is no linear one; heeds timestep and prompts."""
    mixed = latents + 0.5 * latents.roll(1, 1) + timestep / 1000 * latents.roll(1, 3)
    return (mixed + prompts.mean((1, 2)).view(-1, 1, 1, 1)).sin()


@pytest.mark.parametrize("regularisation", [False, True], ids=["", "regularised"])
@pytest.mark.parametrize("averaging", [False, True], ids=["", "averaged"])
@pytest.mark.parametrize("iterations", [0, 1, 3, 9])
def test_equals_the_reference(iterations, averaging, regularisation):
    samples = tiny_sd.drawn_samples(2, seed=iterations)
    method = InversionConfig(
        mode="published", iterations=iterations, averaging=averaging, regularisation=regularisation
    )
    found = inverted(tiny_sd.unet(), tiny_sd.scheduler(), samples, method)
    assert found.timesteps == (1, 201, 401)
    wanted = looped(Counted(tiny_sd.denoise, samples.prompts[1:]), samples, 1, method)
    assert_same(found, wanted, 1, method)


@pytest.mark.parametrize(
    "method",
    [
        InversionConfig(mode="renoise", iterations=1),
        InversionConfig(mode="renoise", iterations=3, averaging=False),
        InversionConfig(mode="renoise", iterations=3, regularisation=False),
        InversionConfig(mode="renoise"),
        InversionConfig(mode="fast"),
        InversionConfig(mode="fast", extra=3),
    ],
    ids=str,
)
def test_other_modes_equal_the_reference(method):
    samples = tiny_sd.drawn_samples(2, seed=11)
    found = inverted(tiny_sd.unet(), tiny_sd.scheduler(), samples, method)
    wanted = looped(Counted(tiny_sd.denoise, samples.prompts[1:]), samples, 1, method)
    assert_same(found, wanted, 1, method)


@pytest.mark.parametrize(
    "method",
    [
        InversionConfig(mode="published", iterations=9, averaging=True, regularisation=False),
        InversionConfig(),
    ],
    ids=["published", "fast"],
)
def test_fifteen_of_fifty_steps(method):
    """Timesteps up to 281, the last two beyond 250, with a denoiser that is cheap."""
    steps = {"inference_steps": 50, "inversion_steps": 15}
    samples = tiny_sd.drawn_samples(2, seed=15)
    found = inverted(waves, tiny_sd.scheduler(), samples, method, steps=steps)
    assert found.timesteps[-3:] == (241, 261, 281)
    wanted = looped(Counted(waves, samples.prompts[:1]), samples, 0, method, steps)
    assert_same(found, wanted, 0, method)


@pytest.mark.parametrize("height, width", [(8, 12), (20, 12), (24, 16), (18, 10)])
def test_other_sizes(height, width):
    """20, 10, 5 and 18, 9, 4 are no powers of two, and 18 and 10 no multiples of a patch."""
    steps = {"inference_steps": 10, "inversion_steps": 1}
    samples, method = tiny_sd.drawn_samples(2, height, width), InversionConfig(mode="renoise", iterations=1)
    found = inverted(tiny_sd.unet(), tiny_sd.scheduler(), samples, method, steps=steps)
    wanted = looped(Counted(tiny_sd.denoise, samples.prompts[1:]), samples, 1, method, steps)
    assert_same(found, wanted, 1, method)


@GUIDABLE
def test_guidance(method):
    samples = tiny_sd.drawn_samples(2, seed=4)
    guided = samples.guided(2.5)
    found = inverted(tiny_sd.unet(), tiny_sd.scheduler(), samples, method, guided)
    without = inverted(tiny_sd.unet(), tiny_sd.scheduler(), samples, method)
    assert found.unet_rows.tolist() == (2 * without.unet_rows).tolist()
    predict = Counted(tiny_sd.denoise, samples.prompts[1:], samples.negatives[1:], 2.5)
    assert_same(found, looped(predict, samples, 1, method), 1, method)
    back = resample(tiny_sd.unet(), tiny_sd.scheduler(), found.latents, guided, **STEPS)
    wanted = sampled(predict, found.latents[1:], steps=steps_of(5, 3))
    assert (back[1:] - wanted).abs().max() < 1e-9


@pytest.mark.parametrize("scale", [1.0, 0.5, 0.0])
def test_guidance_of_one_or_less_is_none(scale):
    samples = tiny_sd.drawn_samples(2)
    method = InversionConfig(mode="published", iterations=1)
    guided = samples.guided(scale)
    found = inverted(tiny_sd.unet(), tiny_sd.scheduler(), samples, method, guided)
    wanted = inverted(tiny_sd.unet(), tiny_sd.scheduler(), samples, method)
    assert torch.equal(found.trajectory, wanted.trajectory)
    assert torch.equal(found.unet_rows, wanted.unet_rows)
    back = [
        resample(tiny_sd.unet(), tiny_sd.scheduler(), found.latents, conditions, **STEPS)
        for conditions in (guided, samples.conditioning)
    ]
    assert torch.equal(*back)


@ALL_METHODS
def test_velocity_of_a_noise_net_gives_its_trajectory(method):
    """v = (e - sqrt(1 - abar) x) / sqrt(abar), from the net's own e."""
    alphas_cumprod = tiny_sd.scheduler().alphas_cumprod.double()

    def velocity(latents, timestep, prompts):
        noise = tiny_sd.denoise(latents, timestep, prompts)
        return (noise - (1 - alphas_cumprod[timestep]).sqrt() * latents) / alphas_cumprod[timestep].sqrt()

    samples = tiny_sd.drawn_samples(2, seed=5)
    by_noise = inverted(tiny_sd.unet(), tiny_sd.scheduler(), samples, method)
    by_velocity = inverted(velocity, tiny_sd.scheduler(**VELOCITY), samples, method)
    # The program's scalars are float32, and so the root of 1 - abar has an error of 1e-6 at t = 1.
    assert torch.allclose(by_noise.trajectory, by_velocity.trajectory, rtol=0, atol=2e-6)
    assert torch.equal(by_noise.unet_rows, by_velocity.unet_rows)
    back = [
        resample(unet, scheduler, by_noise.latents, samples.conditioning, **STEPS)
        for unet, scheduler in (
            (tiny_sd.unet(), tiny_sd.scheduler()),
            (velocity, tiny_sd.scheduler(**VELOCITY)),
        )
    ]
    assert torch.allclose(*back, rtol=0, atol=2e-6)


@ALL_METHODS
def test_velocity_equals_the_reference(method):
    """The random net's output taken as v, also with guidance where the method allows it."""
    samples, guided = tiny_sd.drawn_samples(2, seed=6), method is not METHODS[2]
    conditions = samples.guided(2.0) if guided else samples.conditioning
    scheduler = tiny_sd.scheduler(**VELOCITY)
    found = inverted(tiny_sd.unet(), scheduler, samples, method, conditions)
    negative = samples.negatives[1:] if guided else None
    predict = Counted(tiny_sd.denoise, samples.prompts[1:], negative, 2.0, velocity=True)
    assert_same(found, looped(predict, samples, 1, method), 1, method)
    back = resample(tiny_sd.unet(), scheduler, found.latents, conditions, **STEPS)
    wanted = sampled(predict, found.latents[1:], steps=steps_of(5, 3))
    assert (back[1:] - wanted).abs().max() < 1e-9


def conditioned(latents, timestep, prompts, added_cond_kwargs):
    """A denoiser that heeds prompts and further conditions, each row its own."""
    assert set(added_cond_kwargs) == {"text_embeds", "time_ids"}
    factors = prompts.mean((1, 2)) + added_cond_kwargs["text_embeds"].mean(1)
    shifts = added_cond_kwargs["time_ids"][:, 0] - added_cond_kwargs["time_ids"][:, 5]
    return latents.sin() * (1 + factors.view(-1, 1, 1, 1)) + 0.05 * shifts.view(-1, 1, 1, 1)


def conditions(rows: int, seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(rows, width, generator=generator, dtype=torch.float64)
        for name, width in (("text_embeds", 3), ("time_ids", 6))
    }


@ALL_METHODS
@pytest.mark.parametrize("guided", [False, True], ids=["", "guided"])
def test_further_conditions_reach_their_rows(method, guided):
    if guided and method is METHODS[2]:
        pytest.skip("regularisation has no guidance")
    samples, added, other = tiny_sd.drawn_samples(3, seed=8), conditions(3, 1), conditions(3, 2)
    given = Conditioning(
        Prompts(samples.prompts, added), Prompts(samples.negatives, other), 1.5 if guided else 1.0
    )
    found = inverted(conditioned, tiny_sd.scheduler(), samples, method, given)
    back = resample(conditioned, tiny_sd.scheduler(), found.latents, given, **STEPS)
    for row in range(3):
        here = slice(row, row + 1)
        negative = samples.negatives[here] if guided else None

        def its_own(latents, timestep, prompt, here=here, negative=negative):
            values = other if prompt is negative else added
            return conditioned(latents, timestep, prompt, {name: one[here] for name, one in values.items()})

        predict = Counted(its_own, samples.prompts[here], negative, 1.5)
        assert_same(found, looped(predict, samples, row, method), row, method)
        wanted = sampled(predict, found.latents[here], steps=steps_of(5, 3))
        assert (back[here] - wanted).abs().max() < 1e-9
