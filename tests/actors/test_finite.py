"""NaN and infinity: the item is rejected, its neighbours do not notice, and a model that makes nothing else stops."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from actors.batch import Sample
from actors.corruption.config import CorruptionConfig
from actors.corruption.methods import to_latent_mask
from actors.corruption.round_trip import RoundTrip
from actors.diffusion.inversion_config import InversionConfig
from actors.diffusion.model import DiffusionModel
from actors.errors import ModelError
from actors.finite import ENOUGH, control_image
from actors.images import encode_image, read_image
from tests.actors.corruption.test_corruptor import samples
from tests.corruptors import ONE_ITERATION, UNCHANGED, corruptor

TINY = Path(__file__).parents[1] / "golden" / "tiny_sd"
MARK = (255, 0, 255)
"""Colour of the first pixel of an image that overflows."""
LOUD = 1e3


class Overflowing(DiffusionModel):
    """Gives `value` in the rows of marked images, at one step of the work.

    The mark travels in the latent's first number, which the encoder sets and the UNet leaves alone; without `where`,
    nothing overflows.
    """

    where = ""
    value = float("nan")
    every = False

    def _encode(self, images: torch.Tensor) -> torch.Tensor:
        latents = super()._encode(images)
        marked = (images[:, 0, 0] == torch.tensor(MARK)).all(1) | self.every
        latents[marked, 0, 0, 0] = self.value if self.where == "encode" else LOUD
        return latents

    def denoise(self, latents: torch.Tensor, timestep: int, *others: Any, **more: Any) -> torch.Tensor:
        marked = latents[:, 0, 0, 0] > LOUD / 2
        noise = super().denoise(latents.clamp(-9, 9), timestep, *others, **more)
        noise[marked, 0, 0, 0] = self.value if self.where == "unet" else 0.0
        return noise

    def _decode(self, latents: torch.Tensor) -> torch.Tensor:
        images = super()._decode(latents.clamp(-9, 9) if self.where != "encode" else latents)
        if self.where == "decode":
            images[latents[:, 0, 0, 0] > LOUD / 2, 5, 5, 1] = self.value
        return images


@pytest.fixture
def model() -> Overflowing:
    return Overflowing(str(TINY), device="cpu")


def marked(sample: Sample) -> Sample:
    assert sample.image is not None
    image = read_image(sample.image).copy()
    image[0, 0] = MARK
    return replace(sample, image=encode_image(image))


def five() -> list[Sample]:
    """The third one is marked."""
    return [marked(one) if one.key == "s3" else one for one in samples(1, 2, 3, 4, 5)]


def run(model: DiffusionModel, items: list[Sample], **changes: Any) -> list[Sample]:
    return corruptor(model, **{"inversion_steps": 2, **changes})(items)


@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
@pytest.mark.parametrize(
    ("where", "changes", "detail"),
    [
        ("encode", {}, "the latents after encoding"),
        ("encode", {"target": "image"}, "the latents after encoding"),
        ("unet", {}, "the latents after inversion to k = 2"),
        ("unet", {"inversion": InversionConfig()}, "the latents after inversion to k = 2"),
        ("decode", {}, "the pixels decoded after resampling from k = 2"),
        ("decode", {"baseline": "autoencoder"}, "the pixels decoded after encoding"),
        ("decode", {"target": "image"}, "the pixels decoded after encoding"),
    ],
)
def test_one_row_is_rejected_and_the_others_have_the_same_bytes(model, value, where, changes, detail):
    sound = run(model, five(), **changes)
    model.where, model.value = where, value
    found = run(model, five(), **changes)
    assert (found[2].stage, found[2].reason, found[2].detail) == (
        "corrupt",
        "not_finite",
        f"{detail} hold NaN or infinity",
    )
    assert found[2].corrupted is None and found[2].metrics == {}
    for number in (0, 1, 3, 4):
        assert found[number].corrupted == sound[number].corrupted is not None
        assert found[number] == sound[number]


@pytest.mark.parametrize(
    "changes",
    [
        {"guidance_scale": 3.0, "prompt": "caption"},
        {"inversion": InversionConfig(mode="published")},
        {"deeper": [3, 4], **UNCHANGED, "attempts": 2},
        {"on_failure": "keep", **UNCHANGED},
    ],
)
def test_the_others_do_not_notice_whatever_is_done(model, changes):
    sound = run(model, five(), **changes)
    model.where = "encode"
    found = run(model, five(), **changes)
    assert [one.key for one in found if one.reason == "not_finite"] == ["s3"]
    for number in (0, 1, 3, 4):
        assert found[number] == sound[number]


@pytest.mark.parametrize(
    "inversion",
    [
        InversionConfig(),
        ONE_ITERATION,
        InversionConfig(mode="published"),
        InversionConfig(mode="renoise", iterations=2),
    ],
)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_rows_of_an_inversion_do_not_touch_each_other(model, inversion, value):
    images = np.stack([read_image(one.image) for one in samples(1, 2, 3, 4) if one.image])
    images[2, 0, 0] = MARK
    latent_mask = to_latent_mask(torch.ones(4, 64, 64, dtype=torch.bool), 8, 8)
    round_trip = RoundTrip(model, CorruptionConfig(inversion=inversion))
    seeds = [1, 2, 3, 4] if inversion.regularised else None
    sound = round_trip.invert(images, latent_mask, [2], seeds=seeds)
    model.where, model.value = "encode", value
    found = round_trip.invert(images, latent_mask, [2], seeds=seeds)
    rows = [0, 1, 3]
    assert torch.equal(found.at[2][rows], sound.at[2][rows])
    assert not torch.isfinite(found.at[2][2]).all()
    back, wanted = (round_trip.resampled_latents(one.at[2], one.prompts, 2)[rows] for one in (found, sound))
    assert torch.equal(back, wanted)


def test_a_retry_that_is_not_finite_rejects_the_item(model):
    """The first draw is refused as unchanged; the second one overflows."""
    calls = []

    class Later(Overflowing):
        def _decode(self, latents: torch.Tensor) -> torch.Tensor:
            images = super()._decode(latents)
            calls.append(len(latents))
            if len(calls) == 2:
                images[:, 0, 0, 0] = float("inf")
            return images

    (found,) = run(Later(str(TINY), device="cpu"), samples(1), **UNCHANGED, attempts=3)
    assert (found.reason, found.metrics, found.corrupted) == ("not_finite", {}, None)
    assert found.unet_rows == 2 * 2 + 2 + 2 * 2  # inversion, round trip, two of three draws


def test_a_model_that_gives_nothing_but_nan_stops_the_run(model):
    model.where, model.every = "encode", True
    for count in (1, 3):
        with pytest.raises(ModelError) as caught:
            run(model, samples(*range(count)))
        assert str(caught.value) == (
            f"NaN or infinity for each of {count} different images: {TINY} overflows; set corruption.dtype to bfloat16 "
            "or float32, or take other weights"
        )


def test_a_few_images_that_overflow_are_rejected_where_the_control_does_not(model):
    model.where = "encode"
    found = run(model, [marked(one) for one in samples(1, 2)])
    assert [one.reason for one in found] == ["not_finite"] * 2
    with pytest.raises(ModelError, match=f"each of {ENOUGH} different images"):
        run(model, [marked(one) for one in samples(*range(ENOUGH))])
    same = [replace(marked(samples(1)[0]), key=f"s{n}") for n in range(ENOUGH)]
    assert {one.reason for one in run(model, same)} == {"not_finite"}


def test_the_control_is_a_colour_gradient():
    image = control_image(3, 5)
    assert image.shape == (3, 5, 3) and image.dtype == np.uint8
    assert image[0, 0].tolist() == [0, 0, 128] and image[2, 4].tolist() == [255, 255, 128]
    assert image[1, 1].tolist() == [127, 63, 128]
