"""Samples of a batch do not see each other, nor does their order change anything, to the last bit."""

from __future__ import annotations

import pytest
import torch

from actors.diffusion.conditioning import Conditioning
from actors.diffusion.inversion import Inversion, invert, resample
from actors.diffusion.inversion_config import InversionConfig
from actors.diffusion.prompts import Prompts
from tests import tiny_sd

METHODS = [
    InversionConfig(mode="published", iterations=1, averaging=False, regularisation=False),
    InversionConfig(mode="published", iterations=2, regularisation=False),
    InversionConfig(mode="published", iterations=1),
    InversionConfig(mode="renoise", iterations=1, averaging=False),
    InversionConfig(mode="fast"),
]
ALL_METHODS = pytest.mark.parametrize(
    "method", METHODS, ids=["plain", "averaged", "published", "renoise", "fast"]
)
STEPS = {"inference_steps": 5, "inversion_steps": 3}


def inverted(
    samples: tiny_sd.Samples, method: InversionConfig, unet=None, conditioning=None, **arguments
) -> Inversion:
    return invert(
        tiny_sd.unet() if unet is None else unet,
        tiny_sd.scheduler(),
        samples.latents,
        conditioning or samples.conditioning,
        method=method,
        seeds=samples.seeds,
        keep_trajectory=True,
        **(STEPS | arguments),
    )


def assert_moved_only(straight: Inversion, moved: Inversion, order: list[int]) -> None:
    assert torch.equal(moved.latents, straight.latents[order])
    assert torch.equal(moved.trajectory, straight.trajectory[order])
    assert torch.equal(moved.residual, straight.residual[order])
    assert torch.equal(moved.unet_rows, straight.unet_rows[order])
    assert moved.timesteps == straight.timesteps
    states = [one.get_state() for one in straight.generators]
    assert len(moved.generators) == len(states)
    for one, row in zip(moved.generators, order, strict=False):
        assert torch.equal(one.get_state(), states[row])


def shuffled(rows: int, seed: int = 1) -> list[int]:
    return torch.randperm(rows, generator=torch.Generator().manual_seed(seed)).tolist()


@ALL_METHODS
def test_sixteen_together_are_sixteen_alone(method):
    samples = tiny_sd.drawn_samples(16, seed=2)
    steps = {"inference_steps": 4, "inversion_steps": 3 if method.mode == "fast" else 2}
    together = inverted(samples, method, **steps)
    for row in range(16):
        alone = inverted(samples[[row]], method, **steps)
        assert (together.trajectory[row] - alone.trajectory[0]).abs().max() < 1e-9
        assert (together.residual[row] - alone.residual[0]).abs() < 1e-9
        if alone.generators:
            assert torch.equal(together.generators[row].get_state(), alone.generators[0].get_state())


def test_sixteen_together_are_sixteen_alone_in_single_precision():
    samples = tiny_sd.drawn_samples(16, seed=3).to(torch.float32)
    method, net = InversionConfig(), tiny_sd.unet(torch.float32)
    together = inverted(samples, method, net).latents
    alone = torch.cat([inverted(samples[[row]], method, net).latents for row in range(16)])
    assert together.dtype == torch.float32
    apart = (together - alone).flatten(1).norm(dim=1) / alone.flatten(1).norm(dim=1)
    assert apart.max() < 1e-4


@ALL_METHODS
@pytest.mark.parametrize("rows", [3, 5, 16])
def test_order_of_the_rows(method, rows):
    samples, order = tiny_sd.drawn_samples(rows, seed=rows), shuffled(rows)
    steps = {"inference_steps": 4, "inversion_steps": 3 if method.mode == "fast" else 1}
    assert order != sorted(order)
    straight = inverted(samples, method, **steps)
    assert_moved_only(straight, inverted(samples[order], method, **steps), order)


@pytest.mark.parametrize("rows", [3, 5])
def test_order_of_the_rows_in_single_precision(rows):
    samples, order = tiny_sd.drawn_samples(rows, seed=rows).to(torch.float32), shuffled(rows)
    net = tiny_sd.unet(torch.float32)
    straight = inverted(samples, InversionConfig(), net)
    assert_moved_only(straight, inverted(samples[order], InversionConfig(), net), order)


def test_order_of_rows_that_differ_in_their_seed_only():
    samples, order = tiny_sd.drawn_samples(1), [4, 2, 0, 3, 1]
    same = samples[[0] * 5]
    same = tiny_sd.Samples(same.latents, same.prompts, same.negatives, [50, 40, 30, 20, 10])
    straight = inverted(same, METHODS[2], inversion_steps=1)
    assert_moved_only(straight, inverted(same[order], METHODS[2], inversion_steps=1), order)
    assert len({float(latent.sum()) for latent in straight.latents}) == 5


@pytest.mark.parametrize("method", [METHODS[1], METHODS[4]], ids=["averaged", "fast"])
def test_order_with_guidance(method):
    samples, order = tiny_sd.drawn_samples(5, seed=7), shuffled(5)

    def guided(these):
        found = inverted(these, method, conditioning=these.guided(2.0))
        back = resample(tiny_sd.unet(), tiny_sd.scheduler(), found.latents, these.guided(2.0), **STEPS)
        return found, back

    straight, back = guided(samples)
    moved, moved_back = guided(samples[order])
    assert_moved_only(straight, moved, order)
    assert torch.equal(moved_back, back[order])


@pytest.mark.parametrize("rows", [3, 5, 16])
def test_order_of_resampling(rows):
    samples, order = tiny_sd.drawn_samples(rows, seed=rows), shuffled(rows)
    back, moved = (
        resample(tiny_sd.unet(), tiny_sd.scheduler(), these.latents, these.conditioning, **STEPS)
        for these in (samples, samples[order])
    )
    assert torch.equal(moved, back[order])


@ALL_METHODS
def test_order_with_further_conditions(method):
    """Each row's condition goes with it, also through the pairs of rows that regularisation makes."""
    samples, order = tiny_sd.drawn_samples(5, seed=9), shuffled(5)
    own = torch.linspace(-1, 1, 5, dtype=torch.float64)

    def unet(latents, timestep, prompts, added_cond_kwargs):
        return latents.sin() + 0.1 * added_cond_kwargs["own"].view(-1, 1, 1, 1) * latents.roll(1, 3)

    conditioning = Conditioning(Prompts(samples.prompts, {"own": own}))
    straight = inverted(samples, method, unet, conditioning)
    moved = inverted(samples[order], method, unet, conditioning[order])
    assert_moved_only(straight, moved, order)
    alone = inverted(samples[[3]], method, unet, conditioning[[3]])
    assert (straight.trajectory[3] - alone.trajectory[0]).abs().max() < 1e-9
    resampled = [
        resample(unet, tiny_sd.scheduler(), one.latents, conditions, **STEPS)
        for one, conditions in ((straight, conditioning), (moved, conditioning[order]))
    ]
    assert torch.equal(resampled[1], resampled[0][order])
