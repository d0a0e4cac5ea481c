"""Whether two images show the same picture: planted changes, and pictures that only look alike."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageFilter

from eval.same_image import WHOLE, best_difference, crops, difference, same_image
from tinytown.render import render
from tinytown.scene import parse, sample_scene

PICTURES = [Image.fromarray(np.asarray(render(sample_scene(seed)).image)) for seed in range(6)]


def jpeg(image: Image.Image, quality: int) -> Image.Image:
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=quality)
    return Image.open(io.BytesIO(stream.getvalue())).convert("RGB")


@pytest.mark.parametrize("number", range(6))
def test_changed_copies_are_the_same(number: int):
    image = PICTURES[number]
    assert best_difference(image, image).mean == 0
    assert same_image(image, jpeg(image, 60))
    assert same_image(image.resize((96, 80)), image)
    for part in (image.crop((3, 0, 64, 62)), image.crop((2, 3, 61, 64))):
        assert same_image(part, image) and same_image(image, part)


def test_other_pictures_are_not():
    for number, one in enumerate(PICTURES):
        for other in PICTURES[number + 1 :]:
            assert not same_image(one, other)


def test_one_detail_makes_another_picture():
    image = PICTURES[0].copy()
    image.paste((255, 0, 255), (30, 30, 37, 37))
    assert not same_image(image, PICTURES[0])
    found = best_difference(image, PICTURES[0])
    assert found.mean < 8 < 25 < found.local


@pytest.mark.parametrize(
    ("blur", "one", "other"),
    [
        (1.5, "a desert scene with a medium yellow sign reading T X K at column six row four",
         "a desert scene with a medium yellow sign reading H E X at column six row four"),
        (0, "a sunset scene with a huge pointed green tree at column six row eleven",
         "a sunset scene with a large pointed green tree at column six row eleven"),
        (0, "a night scene with a medium purple house with a brown roof at column nine row ten",
         "a night scene with a small purple house with a brown roof at column nine row ten"),
    ],
)  # fmt: skip
def test_nearly_the_same_scene_is_another_picture(blur: float, one: str, other: str):
    """Their mean difference is that of a copy, and so is that of every field; of signs as generators blur them."""
    first, second = (Image.fromarray(np.asarray(render(parse(caption)).image)) for caption in (one, other))
    assert not same_image(first, second) and not same_image(jpeg(first, 40), second)
    soft = [image.filter(ImageFilter.GaussianBlur(blur)) for image in (first, second)]
    found = difference(*(np.asarray(image.resize((32, 32)), np.float32) for image in soft))
    assert found.mean < 8 and found.local < 25 and found.shape > 0.45 and not same_image(*soft)
    assert same_image(jpeg(first, 40), first) and same_image(jpeg(second, 40), second)


def test_the_share_of_the_shape_by_hand():
    """A white line of 2 in 4 pixels has a variance of 127.5 squared; where it is gone, all of its energy is."""
    line = np.zeros((32, 32, 3), np.float32)
    line[:, 14:16] = 255
    gone = difference(line, np.zeros_like(line))
    assert gone.shape == pytest.approx(255**2 / 2 / (127.5**2 + 200)) and gone.mean == pytest.approx(255 / 16)
    assert difference(line, line).shape == 0
    assert difference(line, line + 5).shape == pytest.approx(5**2 / 200)  # where nothing is drawn


def test_constant_and_tiny_images():
    grey, white = (Image.new("RGB", (20, 20), (level,) * 3) for level in (128, 255))
    assert same_image(grey, Image.new("RGB", (7, 300), (128,) * 3)) and not same_image(grey, white)
    assert same_image(Image.new("RGB", (1, 1)), Image.new("RGB", (1, 1)))


def test_large_images_are_reduced_first():
    image = PICTURES[1].resize((1024, 1024), Image.Resampling.BICUBIC)
    assert same_image(image, PICTURES[1])


def test_crops():
    assert crops() == (WHOLE,)
    assert len(crops(0.1, 0.2)) == 11 and set(map(sum, crops(0.1))) == {0, 0.2}
