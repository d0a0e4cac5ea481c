"""One inversion shared by every method, region, seed and smaller k."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from actors.corruption.config import CorruptionConfig
from actors.corruption.methods import METHODS, draw_noise, to_latent_mask
from actors.corruption.round_trip import Inverted, RoundTrip
from actors.diffusion.conditioning import Conditioning
from actors.diffusion.inversion import invert, resample
from actors.diffusion.model import DiffusionModel
from actors.images import encode_image, encode_mask, read_image
from actors.seeding import seed_for
from tests.actors.corruption.test_corruptor import Counting, Sample
from tests.corruptors import ONE_ITERATION, corruptor
from tests.families import save_sdxl
from tinytown.render import render
from tinytown.scene import sample_scene

IMAGES = np.stack([render(sample_scene(seed)).image for seed in range(4)])
MASKS = torch.zeros(4, 64, 64, dtype=torch.bool)
MASKS[:, 16:40, 24:48] = True
LATENT_MASK = to_latent_mask(MASKS, 8, 8)
STEPS = (1, 2, 3, 4, 5, 6)


@pytest.fixture(scope="module")
def model() -> Counting:
    return Counting(str(Path(__file__).parents[2] / "golden" / "tiny_sd"), device="cpu")


@pytest.fixture(scope="module")
def round_trip(model: Counting) -> RoundTrip:
    return RoundTrip(model, CorruptionConfig(inversion=ONE_ITERATION))


@pytest.fixture(scope="module")
def inverted(round_trip: RoundTrip) -> Inverted:
    return round_trip.invert(IMAGES, LATENT_MASK, STEPS)


def test_one_inversion_serves_every_method_region_and_depth(
    model: Counting, round_trip: RoundTrip, inverted: Inverted
):
    assert inverted.unet_rows.tolist() == [12] * 4  # 6 steps of 2, whatever is drawn from them
    noise = draw_noise([1, 2, 3, 4], (4, 8, 8))
    model.calls.clear()
    for steps in STEPS:
        straight = round_trip.invert(IMAGES, LATENT_MASK, [steps])
        assert straight.unet_rows.tolist() == [2 * steps] * 4
        assert torch.equal(straight.at[steps], inverted.at[steps])
    assert model.calls == [4] * 2 * sum(STEPS)
    model.calls.clear()
    for method in METHODS:
        for steps in STEPS:
            for mask in (LATENT_MASK, ~LATENT_MASK):
                drawn = round_trip.draw(inverted.with_mask(mask), method, steps, noise)
                outside = ~mask.expand_as(drawn)
                assert torch.equal(drawn[outside], inverted.at[steps][outside])
                assert torch.equal(drawn, inverted.at[steps]) == (method == "none")
    assert model.calls == [] and sorted(inverted.at) == [0, *STEPS]


def test_the_noise_level_is_that_of_the_depth(round_trip: RoundTrip, model: Counting, inverted: Inverted):
    noise = draw_noise([1, 2, 3, 4], (4, 8, 8))
    for steps, timestep in ((1, 1), (4, 61), (6, 101)):  # every 20th timestep, from 1
        alpha_prod = float(model.scheduler.alphas_cumprod[timestep])
        wanted = alpha_prod**0.5 * inverted.clean + (1 - alpha_prod) ** 0.5 * noise
        inside = LATENT_MASK.expand_as(noise)
        for drawn in (
            round_trip.draw(inverted, "noise", steps, noise),
            round_trip.draw(inverted, "noise", 0, noise, level=steps),
        ):
            assert torch.allclose(drawn[inside], wanted[inside], atol=1e-6)
    with pytest.raises(ValueError, match="inversion_steps is 0"):
        round_trip.draw(inverted, "noise", 0, noise)


def test_pieces_by_hand_give_what_the_corruptor_gives(round_trip: RoundTrip, inverted: Inverted):
    items = [
        Sample(f"s{n}", "", image=encode_image(IMAGES[n]), mask=encode_mask(MASKS[n].numpy()))
        for n in range(4)
    ]
    found = corruptor(round_trip.model, inversion_steps=4, least_inside=0.0)(items)
    noise = draw_noise([seed_for(7, sample.key, "corrupt") for sample in items], (4, 8, 8))
    images = round_trip.resampled(round_trip.draw(inverted, "noise", 4, noise), inverted.prompts, 4)
    for sample, image in zip(found, images, strict=True):
        assert np.abs(image.astype(int) - read_image(sample.corrupted)).max() <= 1


def test_rows_of_several_inversions_make_a_batch(round_trip: RoundTrip, inverted: Inverted):
    pieces = [inverted[2:3], inverted[0:2], inverted[[3]]]
    again = Inverted.cat(pieces)
    order = [2, 0, 1, 3]
    assert len(again) == 4 and sorted(again.at) == sorted(inverted.at)
    assert torch.equal(again.at[6], inverted.at[6][order]) and torch.equal(
        again.latent_mask, inverted.latent_mask[order]
    )
    assert again.unet_rows.tolist() == [12] * 4
    assert torch.equal(again.prompts.embeds, inverted.prompts.embeds)


def test_without_depth_there_is_the_autoencoder_alone(model: Counting, round_trip: RoundTrip):
    model.calls.clear()
    found = round_trip.invert(IMAGES, LATENT_MASK, [0])
    assert found.unet_rows.tolist() == [0] * 4 and list(found.at) == [0]
    images = round_trip.resampled(found.clean, found.prompts, 0)
    assert model.calls == [] and np.array_equal(images, model.decode(model.encode(IMAGES)))


@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_guidance_and_added_conditions_reach_the_unet(tmp_path: Path, scale: float):
    model = DiffusionModel(str(save_sdxl(tmp_path / "xl")), device="cpu")
    round_trip = RoundTrip(model, CorruptionConfig(guidance_scale=scale, prompt="caption"))
    prompts, empty = model.embed(["a"] * 4, (64, 64)), model.embed([""] * 4, (64, 64))
    found = round_trip.invert(IMAGES, LATENT_MASK, [3], prompts=prompts)
    conditioning = Conditioning(prompts, empty, scale)
    common = (model.denoise, model.scheduler)
    wanted = invert(*common, found.clean, conditioning, inversion_steps=3)
    assert torch.allclose(found.at[3], wanted.latents, atol=1e-5)
    assert found.unet_rows.tolist() == wanted.unet_rows.tolist()
    back = model.decode(resample(*common, found.at[3], conditioning, inversion_steps=3))
    assert np.abs(round_trip.resampled(found.at[3], prompts, 3).astype(int) - back).max() <= 1
    assert round_trip.resampling_rows(3) == (6 if scale > 1 else 3)
