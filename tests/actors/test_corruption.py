"""Eq. 5 of the paper, and masks at latent resolution, against values worked out by hand."""

from __future__ import annotations

import pytest
import torch

from actors.corruption import METHODS, draw_noise, latent_mask, noised_clean_latent


def test_eq_5_at_hand_worked_values():
    inverted, clean, noise = (
        torch.full((1, 1, 1, 2), 7.0),
        torch.full((1, 1, 1, 2), 2.0),
        torch.full((1, 1, 1, 2), -1.0),
    )
    mask = torch.tensor([[[[0, 1]]]])
    found = noised_clean_latent(inverted, clean, mask, torch.tensor(0.64), noise)
    # sqrt(0.64) * 2 + sqrt(0.36) * -1 = 1.6 - 0.6
    assert found.flatten().tolist() == pytest.approx([7.0, 1.0])


def test_noise_has_the_formula_s_moments():
    noise = draw_noise(list(range(400)), (4, 16, 16))
    clean = torch.full_like(noise, 3.0)
    mask = torch.ones(400, 1, 16, 16)
    found = noised_clean_latent(torch.zeros_like(noise), clean, mask, torch.tensor(0.782654), noise)
    # mean sqrt(0.782654) * 3 = 2.65403, standard deviation sqrt(1 - 0.782654) = 0.46620
    assert found.mean().item() == pytest.approx(2.65403, abs=0.003)
    assert found.std().item() == pytest.approx(0.46620, abs=0.002)


def test_noise_of_a_row_depends_on_its_seed_alone():
    assert torch.equal(draw_noise([5, 9], (4, 3, 3))[1], draw_noise([9], (4, 3, 3))[0])


def test_none_leaves_everything():
    inverted = torch.randn(2, 4, 3, 3)
    assert (
        METHODS["none"](inverted, inverted, torch.ones(2, 1, 3, 3), torch.tensor(0.5), inverted) is inverted
    )


def test_cells_that_are_half_covered_are_inside():
    mask = torch.zeros(1, 8, 8, dtype=torch.bool)
    mask[0, :4, :2] = True  # half of the first cell
    mask[0, :4, 4:] = True  # all of the second
    mask[0, 4:, :1] = True  # a quarter of the third, beside solid cells
    assert latent_mask(mask, 2, 2).int().tolist() == [[[[1, 1], [0, 0]]]]


def test_thin_lines_are_kept_whole():
    mask = torch.zeros(1, 32, 32, dtype=torch.bool)
    mask[0, 13, :] = True
    cells = latent_mask(mask, 8, 8)[0, 0]
    assert cells[3].all() and cells.sum() == 8


def test_a_single_pixel_is_kept():
    mask = torch.zeros(1, 32, 32, dtype=torch.bool)
    mask[0, 17, 30] = True
    cells = latent_mask(mask, 8, 8)[0, 0]
    assert cells.sum() == 1 and cells[4, 7]


def test_a_solid_square_is_not_widened():
    mask = torch.zeros(1, 32, 32, dtype=torch.bool)
    mask[0, 8:21, 8:21] = True  # 13 pixels: three whole cells and a quarter of the next
    assert latent_mask(mask, 8, 8).sum() == 9


def test_masks_that_do_not_divide_are_refused():
    with pytest.raises(ValueError, match="33 x 32 pixels do not divide into 8 x 8 cells"):
        latent_mask(torch.zeros(1, 32, 33, dtype=torch.bool), 8, 8)
