"""What does not fit together is reported before the UNet is evaluated."""

from __future__ import annotations

import pytest
import torch

from actors.diffusion.conditioning import Conditioning
from actors.diffusion.inversion import invert, resample
from actors.diffusion.inversion_config import InversionConfig
from actors.diffusion.prompts import Prompts
from actors.diffusion.schedule import Schedule
from tests import tiny_sd

SAMPLES = tiny_sd.drawn_samples(3)
PUBLISHED = InversionConfig(mode="published", iterations=1)
IDS = torch.zeros(3, 6)


def never(latents, timestep, prompts, **conditions):
    raise AssertionError("the UNet was asked")


CASES = [
    (
        {"conditioning": Conditioning(Prompts(SAMPLES.prompts[:2]))},
        r"2 rows of prompts\.embeds for 3 latents",
    ),
    (
        {"conditioning": Conditioning(Prompts(SAMPLES.prompts), Prompts(SAMPLES.negatives[:1]), 2.0)},
        r"1 rows of unconditional\.embeds for 3 latents",
    ),
    (
        {"conditioning": Conditioning(Prompts(SAMPLES.prompts, {"ids": IDS[:2]}))},
        r"2 rows of prompts\.added\['ids'\] for 3 latents",
    ),
    (
        {"latents": SAMPLES.latents[0]},
        r"latents are torch\.float64 \[4, 8, 8\]; wanted: floats \[B, C, h, w\]",
    ),
    ({"latents": SAMPLES.latents.long()}, r"latents are torch\.int64"),
    ({"inversion_steps": 51}, "inversion_steps is 51; allowed: 1 to 50"),
]


@pytest.mark.parametrize("function", [invert, resample])
@pytest.mark.parametrize(("changes", "message"), CASES)
def test_wrong_arguments(function, changes, message: str):
    arguments = {"latents": SAMPLES.latents, "conditioning": SAMPLES.conditioning} | changes
    with pytest.raises(ValueError, match=message):
        function(never, tiny_sd.scheduler(), **arguments)


def test_latents_of_another_width_than_the_unet():
    latents = torch.zeros(1, 8, 8, 8, dtype=torch.float64)
    with pytest.raises(ValueError, match="the UNet takes latents of 4 channels; these have 8"):
        invert(tiny_sd.unet(), tiny_sd.scheduler(), latents, SAMPLES[[0]].conditioning)


@pytest.mark.parametrize("shape", [(64, 4), (128, 15)])
def test_latents_too_narrow_for_regularisation(shape):
    """64 rows are halved three times, to 8; 128 rows four times."""
    latents = torch.zeros(1, 4, *shape, dtype=torch.float64)
    with pytest.raises(ValueError, match="too narrow for regularisation, which halves them"):
        invert(never, tiny_sd.scheduler(), latents, SAMPLES[[0]].conditioning, method=PUBLISHED, seeds=[1])


def test_unused_negatives_may_be_anything():
    found = invert(
        tiny_sd.unet(),
        tiny_sd.scheduler(),
        SAMPLES.latents,
        Conditioning(Prompts(SAMPLES.prompts), Prompts(SAMPLES.negatives[:1])),
        inversion_steps=1,
    )
    assert found.latents.isfinite().all()


@pytest.mark.parametrize(
    "method",
    [
        InversionConfig(),
        InversionConfig(extra=2),
        InversionConfig(mode="renoise", iterations=2, averaging=False, regularisation=False),
    ],
)
def test_a_schedule_that_visits_timestep_0(method: InversionConfig):
    """Its first step leads nowhere: both ends are the first cumulated alpha. So the rest is as without it."""
    with_it = tiny_sd.scheduler(steps_offset=0)
    schedule = Schedule.of(with_it, inference_steps=50, inversion_steps=4)
    assert schedule.timesteps == (0, 20, 40, 60) and schedule.still == (True, False, False, False)
    found = invert(
        tiny_sd.unet(),
        with_it,
        SAMPLES.latents,
        SAMPLES.conditioning,
        inversion_steps=4,
        method=method,
        keep_trajectory=True,
    )
    assert found.latents.isfinite().all() and found.residual.isfinite().all()
    assert torch.allclose(found.trajectory[:, 1], SAMPLES.latents, rtol=0, atol=1e-6)
    back = resample(tiny_sd.unet(), with_it, found.latents, SAMPLES.conditioning, inversion_steps=4)
    assert (back - SAMPLES.latents).abs().max() < 0.1
