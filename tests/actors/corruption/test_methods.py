"""What every corruption puts inside a region, and masks at latent resolution, against values worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from actors.corruption.methods import METHODS, corrupt, draw_noise, to_latent_mask

BETAS = np.linspace(math.sqrt(0.00085), math.sqrt(0.012), 1000) ** 2
ALPHAS_CUMPROD = np.cumprod(1 - BETAS)
"""Cumulated alphas of Stable Diffusion. The k-th of the 50 steps of DDIM ends at t = 1 + 20 (k - 1)."""

EVERYWHERE, NOWHERE = torch.ones(1, 1, 4, 4, dtype=torch.bool), torch.zeros(1, 1, 4, 4, dtype=torch.bool)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(20)


def grid(height: int, width: int) -> Tensor:
    """0, 1, 2, ... in reading order: [1, 1, height, width]."""
    return torch.arange(height * width, dtype=torch.float32).reshape(1, 1, height, width)


def mask_of(*rows: str) -> Tensor:
    """bool [1, 1, h, w], true at every #."""
    return torch.tensor([[[[mark == "#" for mark in row] for row in rows]]])


def applied(method: str, latents: Tensor, latent_mask: Tensor) -> Tensor:
    """A method that needs the latents and the mask alone; what it does not need is NaN."""
    unused = torch.full_like(latents, math.nan)
    return corrupt(method, latents, unused, latent_mask, alpha_prod=torch.tensor(0.5), noise=unused)


def rows_of(latents: Tensor) -> list[list[float]]:
    return latents[0, 0].tolist()


def white_noise(count: int, side: int) -> Tensor:
    return draw_noise(list(range(count)), (4, side, side))


def whole_mask(latents: Tensor) -> Tensor:
    return torch.ones_like(latents[:, :1], dtype=torch.bool)


def bits(latents: Tensor) -> Tensor:
    return latents.view(torch.int32 if latents.dtype == torch.float32 else torch.int64)


def test_eq_5_at_hand_worked_values():
    latents, clean, noise = (
        torch.full((1, 1, 1, 2), 7.0),
        torch.full((1, 1, 1, 2), 2.0),
        torch.full((1, 1, 1, 2), -1.0),
    )
    found = corrupt("noise", latents, clean, mask_of(".#"), alpha_prod=torch.tensor(0.64), noise=noise)
    # sqrt(0.64) * 2 + sqrt(0.36) * -1 = 1.6 - 0.6
    assert found.flatten().tolist() == pytest.approx([7.0, 1.0])


def test_every_row_may_have_its_own_level():
    ones = torch.ones(3, 1, 1, 1)
    alpha_prod = torch.tensor([0.64, 0.36, 1.0], dtype=torch.float64)
    found = corrupt("noise", ones, 2 * ones, ones.bool(), alpha_prod=alpha_prod, noise=ones)
    # 0.8 * 2 + 0.6, 0.6 * 2 + 0.8, 2 and no noise
    assert found.flatten().tolist() == pytest.approx([2.2, 2.0, 2.0])
    assert found.dtype == torch.float32


def test_the_level_after_ten_steps_is_the_known_one():
    assert ALPHAS_CUMPROD[181] == pytest.approx(0.782654, abs=5e-7)


@pytest.mark.parametrize("k", [5, 10, 15, 20])
@pytest.mark.parametrize("direct", [False, True], ids=["intermediate", "image latent"])
def test_noise_has_the_formula_s_moments(k: int, direct: bool):
    alpha_prod = ALPHAS_CUMPROD[1 + 20 * (k - 1)]
    noise = white_noise(400, 16)
    clean = torch.full_like(noise, 3.0)
    latents = clean if direct else torch.zeros_like(noise)
    found = corrupt(
        "noise", latents, clean, whole_mask(noise), alpha_prod=torch.tensor(alpha_prod), noise=noise
    )
    assert found.mean().item() == pytest.approx(math.sqrt(alpha_prod) * 3, abs=0.005)
    assert found.std().item() == pytest.approx(math.sqrt(1 - alpha_prod), abs=0.005)


@pytest.mark.parametrize("k", [5, 20])
@pytest.mark.parametrize("direct", [False, True], ids=["intermediate", "image latent"])
def test_gaussian_has_unit_moments_at_every_level(k: int, direct: bool):
    alpha_prod = torch.tensor(ALPHAS_CUMPROD[1 + 20 * (k - 1)])
    noise = white_noise(400, 16)
    clean = torch.full_like(noise, 3.0)
    latents = clean if direct else torch.zeros_like(noise)
    found = corrupt("gaussian", latents, clean, whole_mask(noise), alpha_prod=alpha_prod, noise=noise)
    assert found.mean().item() == pytest.approx(0, abs=0.005)
    assert found.std().item() == pytest.approx(1, abs=0.005)


def test_noise_of_a_row_depends_on_its_seed_alone():
    assert torch.equal(draw_noise([5, 9], (4, 3, 3))[1], draw_noise([9], (4, 3, 3))[0])


def test_a_single_cell_is_blurred_into_the_gaussian_s_weights():
    latents = torch.zeros(1, 1, 15, 16, dtype=torch.float64)
    latents[0, 0, 7, 8] = 1
    found = applied("blur", latents, whole_mask(latents))[0, 0].numpy()
    # exp(-d^2 / 8) for distances of 0 to 6 latent pixels, standard deviation 2, made to sum to one over both sides.
    bell = np.exp([0, -1 / 8, -4 / 8, -9 / 8, -16 / 8, -25 / 8, -36 / 8])
    weights = bell / (bell[0] + 2 * bell[1:].sum())
    assert found[7, 8] == pytest.approx(weights[0] ** 2, rel=1e-12)
    assert found[7, 11] == pytest.approx(weights[0] * weights[3], rel=1e-12)
    assert found[1, 2] == pytest.approx(weights[6] ** 2, rel=1e-12)
    assert not found[0].any() and not found[14].any() and not found[:, :2].any() and not found[:, 15].any()
    assert found.sum() == pytest.approx(1, rel=1e-12)


def test_blurred_white_noise_has_the_kernel_s_variance():
    noise = white_noise(64, 64)
    found = applied("blur", noise, whole_mask(noise))[..., 6:-6, 6:-6]
    squares = np.exp(-(np.arange(-6, 7) ** 2) / 4).sum() / np.exp(-(np.arange(-6, 7) ** 2) / 8).sum() ** 2
    assert squares**2 == pytest.approx(1 / (4 * math.pi * 2**2), rel=0.01)
    assert found.var().item() == pytest.approx(squares**2, rel=0.04)


@pytest.mark.parametrize("side", [1, 3, 16])
def test_a_flat_latent_stays_flat_when_blurred(side: int):
    latents = torch.full((1, 2, side, 2 * side), -3.5, dtype=torch.float64)
    found = applied("blur", latents, whole_mask(latents))
    assert torch.allclose(found, latents, rtol=0, atol=1e-14)


def test_a_blurred_region_sees_its_surroundings():
    latents = torch.zeros(1, 1, 9, 9)
    latents[0, 0, 4, 5] = 1
    latent_mask = torch.zeros(1, 1, 9, 9, dtype=torch.bool)
    latent_mask[0, 0, 4, 4] = True
    found = applied("blur", latents, latent_mask)
    assert (
        0.03 < found[0, 0, 4, 4] < 0.04
    )  # 0.1997 * 0.1762, one latent pixel beside the middle of the kernel
    assert found[0, 0, 4, 5] == 1


def test_a_square_is_turned_counter_clockwise():
    latent_mask = mask_of(
        "....",
        ".##.",
        ".##.",
        "....",
    )
    assert rows_of(applied("rotate", grid(4, 4), latent_mask)) == [
        [0, 1, 2, 3],
        [4, 6, 10, 7],
        [8, 5, 9, 11],
        [12, 13, 14, 15],
    ]


def test_a_full_mask_turns_the_whole_latent():
    latents = torch.randn(2, 3, 7, 7)
    found = applied("rotate", latents, whole_mask(latents))
    assert np.array_equal(found.numpy(), np.rot90(latents.numpy(), axes=(2, 3)))


def test_only_the_region_s_own_cells_take_from_the_square():
    latent_mask = mask_of(
        "#...",
        "#...",
        "###.",
        "....",
    )
    # The square around the L, 0 1 2 / 4 5 6 / 8 9 10, is 2 6 10 / 1 5 9 / 0 4 8 when turned.
    assert rows_of(applied("rotate", grid(4, 4), latent_mask)) == [
        [2, 1, 2, 3],
        [1, 5, 6, 7],
        [0, 4, 8, 11],
        [12, 13, 14, 15],
    ]


def test_the_square_lies_around_the_middle_of_the_box():
    latent_mask = mask_of(
        ".....",
        ".....",
        ".###.",
        ".....",
        ".....",
    )
    # The square is 6 7 8 / 11 12 13 / 16 17 18; its middle row becomes 7 12 17.
    assert rows_of(applied("rotate", grid(5, 5), latent_mask))[2] == [10, 7, 12, 17, 14]


def test_an_odd_cell_of_the_square_goes_below():
    latent_mask = mask_of(
        ".....",
        ".....",
        ".##..",
        ".....",
        ".....",
    )
    # The square is 11 12 / 16 17, which turns into 12 17 / 11 16.
    assert rows_of(applied("rotate", grid(5, 5), latent_mask))[2] == [10, 12, 17, 13, 14]


def test_a_square_beyond_the_edge_is_shifted_back():
    latent_mask = mask_of(
        "....",
        "....",
        "....",
        ".###",
    )
    # Three rows up from the edge: 5 6 7 / 9 10 11 / 13 14 15; the last row becomes 5 9 13.
    assert rows_of(applied("rotate", grid(4, 4), latent_mask))[3] == [12, 5, 9, 13]


def test_a_square_larger_than_the_latent_repeats_the_edge():
    # The square of four around the box starts one row above the first and ends one below the second:
    # rows 0 1 2 3 / 0 1 2 3 / 4 5 6 7 / 4 5 6 7, which turn into 3 3 7 7 / 2 2 6 6 / 1 1 5 5 / 0 0 4 4.
    assert rows_of(applied("rotate", grid(2, 4), mask_of("####", "####"))) == [[2, 2, 6, 6], [1, 1, 5, 5]]


def test_regions_are_turned_one_by_one():
    latent_mask = mask_of(
        "##..",
        "##..",
        "...#",
        "...#",
    )
    # 0 1 / 4 5 turns into 1 5 / 0 4. The column's square is shifted left: 10 11 / 14 15 into 11 15 / 10 14.
    assert rows_of(applied("rotate", grid(4, 4), latent_mask)) == [
        [1, 5, 2, 3],
        [0, 4, 6, 7],
        [8, 9, 10, 15],
        [12, 13, 14, 14],
    ]


def test_cells_that_touch_at_a_corner_are_one_region():
    # As two regions of one latent pixel they would stay. The square 0 1 / 2 3 turns into 1 3 / 0 2.
    assert rows_of(applied("rotate", grid(2, 2), mask_of("#.", ".#"))) == [[1, 1], [2, 2]]


def test_regions_of_two_samples_do_not_grow_together():
    latents = grid(2, 2).repeat(2, 1, 1, 1)
    latent_mask = torch.cat((mask_of("##", ".."), mask_of("..", "##")))
    found = applied("rotate", latents, latent_mask)
    assert found[0, 0].tolist() == [[1, 3], [2, 3]]
    assert found[1, 0].tolist() == [[0, 1], [0, 2]]


def test_downscaled_blocks_are_means_and_the_last_is_what_is_left():
    latents = grid(9, 10)
    found = applied("downscale", latents, whole_mask(latents))[0, 0]
    # 10 * row + column: rows 0 to 7 have the mean 35 and row 8 has 80; columns 3.5, then 8.5.
    assert found[:8, :8].unique().tolist() == [38.5]
    assert found[:8, 8:].unique().tolist() == [43.5]
    assert found[8, :8].unique().tolist() == [83.5]
    assert found[8, 8:].unique().tolist() == [88.5]


def test_a_latent_smaller_than_a_block_becomes_its_mean():
    latents = grid(3, 5)
    assert applied("downscale", latents, whole_mask(latents)).unique().tolist() == [7]


def test_downscaled_white_noise_has_a_64th_of_the_variance():
    noise = white_noise(64, 64)
    found = applied("downscale", noise, whole_mask(noise))
    assert found[..., ::8, ::8].var().item() == pytest.approx(1 / 64, rel=0.05)
    assert torch.equal(found[..., ::8, ::8], found[..., 7::8, 7::8])


def test_none_gives_the_latents_in_a_tensor_of_their_own():
    latents = torch.randn(1, 4, 4, 4)
    found = applied("none", latents, EVERYWHERE)
    assert torch.equal(found, latents)
    found.zero_()
    assert latents.all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("method", METHODS)
def test_outside_nothing_changes_and_the_arguments_stay(method: str, dtype: torch.dtype):
    given = [torch.randn(3, 4, 9, 11).to(dtype) for _ in range(3)]
    given[0][torch.rand(3, 4, 9, 11) < 0.2] = -0.0
    latents, clean, noise = (tensor.clone() for tensor in given)
    latent_mask = torch.rand(3, 1, 9, 11) < 0.4
    found = corrupt(method, latents, clean, latent_mask, alpha_prod=torch.tensor(0.6), noise=noise)
    assert found.dtype == dtype and found.shape == latents.shape
    outside = ~latent_mask.expand_as(found)
    assert torch.equal(bits(found)[outside], bits(given[0])[outside])
    assert all(torch.equal(one, other) for one, other in zip((latents, clean, noise), given, strict=True))
    if method != "none":
        assert (found != latents)[~outside].float().mean() > 0.5


@pytest.mark.parametrize("method", METHODS)
def test_the_result_has_the_latents_type_whatever_the_rest_has(method: str):
    latents, other = torch.zeros(1, 1, 4, 4), torch.ones(1, 1, 4, 4, dtype=torch.float64)
    found = corrupt(method, latents, other, EVERYWHERE, alpha_prod=other[0, 0, 0, 0] / 2, noise=other)
    assert found.dtype == torch.float32


@pytest.mark.parametrize("method", METHODS)
def test_an_empty_mask_leaves_everything(method: str):
    latents = torch.randn(1, 2, 4, 4)
    other = torch.full_like(latents, math.nan)
    found = corrupt(method, latents, other, NOWHERE, alpha_prod=torch.tensor([0.5]), noise=other)
    assert torch.equal(found, latents)


@pytest.mark.parametrize("method", METHODS)
def test_a_batch_without_rows_is_no_error(method: str):
    empty = torch.zeros(0, 4, 6, 6)
    found = corrupt(method, empty, empty, empty[:, :1].bool(), alpha_prod=torch.tensor(0.5), noise=empty)
    assert found.shape == (0, 4, 6, 6)


@pytest.mark.parametrize("method", METHODS)
def test_memory_in_another_order_makes_no_difference(method: str):
    latents, clean, noise = (torch.randn(2, 4, 6, 5) for _ in range(3))
    latent_mask = torch.rand(2, 1, 6, 5) < 0.6
    alpha_prod = torch.tensor([0.3, 0.9])
    wanted = corrupt(method, latents, clean, latent_mask, alpha_prod=alpha_prod, noise=noise)
    turned = [tensor.to(memory_format=torch.channels_last) for tensor in (latents, clean, noise)]
    found = corrupt(method, turned[0], turned[1], latent_mask, alpha_prod=alpha_prod, noise=turned[2])
    assert torch.allclose(found, wanted, rtol=0, atol=1e-6)


def test_an_unknown_method_is_refused_with_those_there_are():
    latents = torch.zeros(1, 4, 4, 4)
    with pytest.raises(ValueError) as caught:
        corrupt("melt", latents, latents, EVERYWHERE, alpha_prod=torch.tensor(0.5), noise=latents)
    assert str(caught.value) == (
        "no corruption 'melt'; there are noise, gaussian, blur, rotate, downscale, none"
    )


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"latents": torch.zeros(4, 4, 4)}, r"float32 \[4, 4, 4\]; wanted: floating point \[B, C, h, w\]"),
        ({"latents": torch.zeros(2, 3, 4, 4).int()}, r"the latents are torch.int32 \[2, 3, 4, 4\]"),
        ({"clean": torch.zeros(2, 3, 4, 5)}, r"clean is \[2, 3, 4, 5\], the latents are \[2, 3, 4, 4\]"),
        ({"clean": torch.zeros(1, 3, 4, 4)}, r"clean is \[1, 3, 4, 4\], the latents are \[2, 3, 4, 4\]"),
        ({"noise": torch.zeros(2, 1, 4, 4)}, r"noise is \[2, 1, 4, 4\], the latents are \[2, 3, 4, 4\]"),
        (
            {"latent_mask": torch.zeros(2, 1, 8, 8).bool()},
            r"latent_mask is torch.bool \[2, 1, 8, 8\]; latents \[2, 3, 4, 4\] need torch.bool \[2, 1, 4, 4\]",
        ),
        ({"latent_mask": torch.zeros(2, 3, 4, 4).bool()}, r"\[2, 3, 4, 4\] need torch.bool \[2, 1, 4, 4\]"),
        ({"latent_mask": torch.zeros(1, 1, 4, 4).bool()}, r"latent_mask is torch.bool \[1, 1, 4, 4\]"),
        ({"latent_mask": torch.zeros(2, 4, 4).bool()}, r"latent_mask is torch.bool \[2, 4, 4\]"),
        ({"latent_mask": torch.zeros(2, 1, 4, 4)}, r"latent_mask is torch.float32 \[2, 1, 4, 4\]"),
        ({"alpha_prod": torch.tensor([0.5, 0.5, 0.5])}, r"alpha_prod is \[3\]; wanted: a scalar or \[2\]"),
        ({"alpha_prod": torch.tensor([0.5])}, r"alpha_prod is \[1\]; wanted: a scalar or \[2\]"),
        (
            {"alpha_prod": torch.full((2, 1, 1, 1), 0.5)},
            r"alpha_prod is \[2, 1, 1, 1\]; wanted: a scalar or \[2\]",
        ),
        ({"alpha_prod": torch.tensor(0.0)}, r"alpha_prod is 0.0; cumulated alphas lie above 0 and up to 1"),
        ({"alpha_prod": torch.tensor(1.5)}, r"alpha_prod is 1.5;"),
        ({"alpha_prod": torch.tensor([0.5, -0.5])}, r"alpha_prod is \[0.5, -0.5\];"),
        ({"alpha_prod": torch.tensor(math.nan)}, r"alpha_prod is nan;"),
    ],
)
@pytest.mark.parametrize("method", METHODS)
def test_arguments_that_do_not_fit_are_refused(method: str, changed: dict[str, Tensor], message: str):
    latents = torch.zeros(2, 3, 4, 4)
    fitting = {
        "latents": latents,
        "clean": latents,
        "latent_mask": torch.ones(2, 1, 4, 4).bool(),
        "alpha_prod": torch.tensor(0.5),
        "noise": latents,
    }
    with pytest.raises(ValueError, match=message):
        corrupt(method, **(fitting | changed))


def test_cells_that_are_half_covered_are_inside():
    mask = torch.zeros(1, 8, 8, dtype=torch.bool)
    mask[0, :4, :2] = True  # half of the first latent pixel
    mask[0, :4, 4:] = True  # all of the second
    mask[0, 4:, :1] = True  # a quarter of the third, beside solid ones
    assert to_latent_mask(mask, 2, 2).int().tolist() == [[[[1, 1], [0, 0]]]]


def test_thin_lines_are_kept_whole():
    mask = torch.zeros(1, 32, 32, dtype=torch.bool)
    mask[0, 13, :] = True
    latent_mask = to_latent_mask(mask, 8, 8)[0, 0]
    assert latent_mask[3].all() and latent_mask.sum() == 8


def test_a_single_pixel_is_kept():
    mask = torch.zeros(1, 32, 32, dtype=torch.bool)
    mask[0, 17, 30] = True
    latent_mask = to_latent_mask(mask, 8, 8)[0, 0]
    assert latent_mask.sum() == 1 and latent_mask[4, 7]


def test_thin_parts_beside_a_solid_one_are_kept():
    """A line of 2 pixels, 4 beside a block; one of 2 pixels in the latent row below it. Neither touches the block."""
    mask = torch.zeros(1, 64, 64, dtype=torch.bool)
    mask[0, 8:24, 8:24] = True
    mask[0, 8:24, 28:30] = True
    mask[0, 26:28, 8:24] = True
    latent_pixels = to_latent_mask(mask, 8, 8)[0, 0].nonzero().tolist()
    assert latent_pixels == [[1, 1], [1, 2], [1, 3], [2, 1], [2, 2], [2, 3], [3, 1], [3, 2]]


def test_a_solid_square_is_not_widened():
    mask = torch.zeros(1, 32, 32, dtype=torch.bool)
    mask[0, 8:21, 8:21] = True  # 13 pixels: three whole latent pixels and a quarter of the next
    assert to_latent_mask(mask, 8, 8).sum() == 9


def test_masks_that_do_not_divide_are_refused():
    with pytest.raises(ValueError, match="33 x 32 pixels do not divide into 8 x 8 latent pixels"):
        to_latent_mask(torch.zeros(1, 32, 33, dtype=torch.bool), 8, 8)
