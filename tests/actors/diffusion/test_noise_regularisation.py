"""Regularised noise, its two gradients and its random stream, against autograd and one draw after the other."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from actors.diffusion.noise_regularisation import NoiseRegulariser, correlation_gradient, kl_gradient
from tests.reference_renoise import correlation_loss, kl_loss, regularised, slope

SEEDS = st.integers(0, 2**63 - 1)
CPU = torch.device("cpu")


def drawn(seed: int, *shape: int, scale: float = 1.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(shape, generator=generator, dtype=torch.float64)


def levels_of(height: int) -> list[int]:
    """Heights of the pyramid: halved while above 8."""
    return [height, *levels_of(height // 2)] if height > 8 else [height]


def drawn_one_by_one(generator: torch.Generator, channels: int, height: int) -> Tensor:
    """Shifts [1, channels, levels] of one roll."""
    shifts = [
        [int(torch.randint(0, level // 2, (1,), generator=generator)) for level in levels_of(height)]
        for _ in range(channels)
    ]
    return torch.tensor([shifts])


@settings(deadline=None, max_examples=40)
@given(
    SEEDS, st.integers(1, 3), st.integers(4, 23), st.integers(4, 23), st.sampled_from([1e-3, 0.3, 1.0, 5.0])
)
def test_kl_gradient_is_that_of_autograd(seed, channels, height, width, scale):
    """Down to a scale at which variances are as small as the 1e-6 beside them, and |KL| turns around."""
    noise, wanted = drawn(seed, 2, 1, channels, height, width, scale=scale)
    found, by_autograd = kl_gradient(noise, wanted), slope(lambda mine: kl_loss(mine, wanted), noise)
    assert (found - by_autograd).abs().max() < 1e-9 * max(1.0, by_autograd.abs().max().item())
    assert not found[..., height // 4 * 4 :, :].any()
    assert not found[..., width // 4 * 4 :].any()


@settings(deadline=None, max_examples=40)
@given(SEEDS, st.integers(1, 3), st.integers(2, 40), st.integers(8, 40))
def test_correlation_gradient_is_that_of_autograd(seed, channels, height, width):
    noise = drawn(seed, 1, channels, height, width)
    generator, same = (torch.Generator().manual_seed(seed) for _ in range(2))
    found = correlation_gradient(noise, drawn_one_by_one(generator, channels, height))
    by_autograd = slope(lambda mine: correlation_loss(mine, same), noise)
    assert (found - by_autograd).abs().max() < 1e-12
    assert torch.equal(generator.get_state(), same.get_state())


@settings(deadline=None, max_examples=15)
@given(SEEDS, st.integers(1, 4), st.integers(4, 28), st.integers(8, 20))
def test_regularised_noise_is_that_of_autograd(seed, channels, height, width):
    """Gradients, their order, and the random stream with all its draws."""
    noise, wanted = drawn(seed, 2, 1, channels, height, width)
    regularise = NoiseRegulariser([seed], (channels, height, width), torch.float64, CPU)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(2):
        torch.randn((1, channels, height, width), generator=generator, dtype=torch.float64)
    assert (regularise(noise, wanted) - regularised(noise, wanted, generator)).abs().max() < 1e-9
    assert torch.equal(regularise.generators[0].get_state(), generator.get_state())


@pytest.mark.parametrize("height", [8, 9, 15, 16, 17, 44, 63, 90, 127])
def test_random_stream_of_many_levels(height):
    """127, 63, 31, 15, 7 have no common divisors; two regularisations follow each other in the same stream."""
    width = 8 * 2 ** len(levels_of(height))
    regularise = NoiseRegulariser([5, 6], (1, height, width), torch.float64, CPU)
    generator = torch.Generator().manual_seed(6)
    for _ in range(2):
        torch.randn((1, height, width), generator=generator, dtype=torch.float64)
    flat = torch.zeros(2, 1, height, width, dtype=torch.float64)
    for _ in range(2):
        regularise(flat, flat)
    for _ in range(2 * 4 * 5):
        drawn_one_by_one(generator, 1, height)
    assert torch.equal(regularise.generators[1].get_state(), generator.get_state())


@pytest.mark.parametrize("height", [17, 20, 63])
def test_rolls_of_many_levels(height):
    width = 2 ** len(levels_of(height))
    noise, wanted = drawn(height, 2, 1, 2, height, width)
    regularise = NoiseRegulariser([height], (2, height, width), torch.float64, CPU)
    generator = torch.Generator()
    generator.set_state(regularise.generators[0].get_state())
    assert (regularise(noise, wanted) - regularised(noise, wanted, generator)).abs().max() < 1e-9


def test_noise_is_the_second_normal_draw():
    """Of 4 x 6 x 10 numbers each, from the sample's own generator."""
    regularise = NoiseRegulariser([11, 12], (4, 6, 10), torch.float32, CPU)
    for row, seed in enumerate((11, 12)):
        generator = torch.Generator().manual_seed(seed)
        torch.randn(4, 6, 10, generator=generator)
        assert torch.equal(regularise.noise[row], torch.randn(4, 6, 10, generator=generator))
        assert torch.equal(regularise.generators[row].get_state(), generator.get_state())


def test_samples_of_a_batch_do_not_see_each_other():
    noise, wanted = drawn(1, 2, 5, 4, 12, 8)
    seeds = [3, 1, 4, 1, 5]
    together = NoiseRegulariser(seeds, (4, 12, 8), torch.float64, CPU)(noise, wanted)
    for row, seed in enumerate(seeds):
        here = slice(row, row + 1)
        alone = NoiseRegulariser([seed], (4, 12, 8), torch.float64, CPU)(noise[here], wanted[here])
        assert (together[here] - alone).abs().max() < 1e-12
    assert not torch.equal(together[0], together[1])


def test_kl_gradient_by_hand():
    """A patch that is moved by d from one of variance v has gradient 2 d / (16 v) everywhere, beyond 1e-6."""
    wanted = torch.arange(16, dtype=torch.float64).view(1, 1, 4, 4)
    variance = 16 * 17 / 12
    gradient = kl_gradient(wanted + 3, wanted)
    assert torch.allclose(gradient, torch.full_like(wanted, 2 * 3 / (16 * variance)), rtol=1e-6, atol=0)


def test_steep_gradients_are_clipped():
    """One patch should have a variance of nearly 0; four times, noise moves there by 0.065 times 100 at most."""
    noise, wanted = drawn(7, 2, 1, 1, 32, 32)
    wanted[..., :4, :4] *= 1e-3
    regularise = NoiseRegulariser([0], (1, 32, 32), torch.float64, CPU)
    generator = torch.Generator()
    generator.set_state(regularise.generators[0].get_state())
    found = regularise(noise, wanted)
    assert (found - regularised(noise, wanted, generator)).abs().max() < 1e-9
    assert kl_gradient(noise, wanted).abs().max() > 10_000
    assert (found - noise)[..., :4, :4].abs().max() < 4 * 6.5 + 1


def test_correlation_gradient_by_hand():
    """x = (1, 2; 3, 4) rolled by 0: mean(x^2) = 7.5, gradient 2 * 7.5 * 2 x / 4 for each of both axes: 15 x."""
    noise = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]], dtype=torch.float64)
    found = correlation_gradient(noise, torch.zeros(1, 1, 1, dtype=torch.int64))
    assert torch.allclose(found, 15 * noise, rtol=1e-12, atol=0)
