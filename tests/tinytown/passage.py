"""The round trip of images through the shipped VAE, like those of the generators, and what of a plant survives it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch
from diffusers import AutoencoderKL
from numpy.typing import NDArray

from actors.models import locate
from tests.tinytown.planted import Planted, differs, plant
from tinytown.render import render
from tinytown.scene import CHOICES, LETTERS, Scene

BATCH = 32
LEAST_SEEN = 6
"""Pixels that must differ by more than 40 of 255 from the clean image for a person to see the damage."""

LEAST_ILLEGAL = 12
"""The same from an image with another letter or time; with fewer, a person reads that letter (found by looking)."""


@dataclass(frozen=True)
class Passed:
    """A plant after the VAE.

    Attributes:
        planted: before the VAE.
        clean, damaged: uint8 [64, 64, 3], after it.
        touched: bool [64, 64], the planted pixels, and those that the VAE changed because of them: where it makes
            of the damaged image something else than of the clean one, by more than 16 of 255 in a channel. The
            VAE is not local; a mark on what it spread around the damage is no false alarm.
    """

    planted: Planted
    clean: NDArray[np.uint8]
    damaged: NDArray[np.uint8]
    touched: NDArray[np.bool_]


def through(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Encodes (the mode, no sampling) and decodes images, uint8 [N, 64, 64, 3] to the same."""
    parts = [_through(images[start : start + BATCH]) for start in range(0, len(images), BATCH)]
    return np.concatenate(parts)


def visible_plants(kind: str, count: int) -> tuple[list[Passed], int]:
    """The first plants of a kind that a person could still see after the VAE.

    Returns:
        `count` plants, and how many seeds were tried for them.
    """
    found: list[Passed] = []
    for seed, passed in enumerate(_passed(kind), start=1):
        if is_visible(passed):
            found.append(passed)
        if len(found) == count:
            return found, seed
    raise AssertionError("seeds do not end")


def is_visible(passed: Passed) -> bool:
    """Whether the damaged image, after the VAE, is another than every legal one.

    The VAE knows renders only, and makes a legal letter of some smears, and a legal hour of some bent hands: no one
    could call those damaged. So the image must differ not only from the clean one, but also from those in which
    the same sign has another letter, or the same clock shows another time.
    """
    if _seen(passed.clean, passed.damaged) < LEAST_SEEN:
        return False
    others = [render(scene).image for scene in legal_scenes(passed.planted)]
    return not others or all(
        _seen(other, passed.damaged) >= LEAST_ILLEGAL for other in through(np.stack(others))
    )


def legal_scenes(planted: Planted) -> list[Scene]:
    """The scenes with another letter (one of three) or another time, if the plant damaged a sign or a clock."""
    thing = planted.scene.things[planted.place]
    words = dict(thing.attributes)
    if thing.kind == "sign":
        spelled = words["letters"]
        changes = [
            {"letters": spelled[:place] + letter + spelled[place + 1 :]}
            for place in range(3)
            for letter in LETTERS
        ]
    elif thing.kind == "clock":
        times = CHOICES["clock"]
        changes = [{"hour": hour, "minute": minute} for hour in times["hour"] for minute in times["minute"]]
    else:
        changes = []
    scenes = []
    for change in changes:
        things = list(planted.scene.things)
        things[planted.place] = replace(thing, attributes=tuple((words | change).items()))
        scenes.append(replace(planted.scene, things=tuple(things)))
    return [scene for scene in scenes if scene != planted.scene]


def _seen(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> int:
    return int(differs(one, other, 40).sum())


def _passed(kind: str) -> Iterator[Passed]:
    for start in itertools.count(step=BATCH // 2):
        plants = [plant(kind, seed) for seed in range(start, start + BATCH // 2)]
        pairs = np.stack([image for planted in plants for image in (planted.clean, planted.damaged)])
        after = through(pairs)
        for planted, clean, damaged in zip(plants, after[0::2], after[1::2], strict=True):
            yield Passed(planted, clean, damaged, planted.damage | differs(clean, damaged, 16))


@lru_cache(maxsize=1)
def _vae() -> AutoencoderKL:
    return AutoencoderKL.from_pretrained(
        locate("tinytown"), subfolder="vae", torch_dtype=torch.float32
    ).eval()


@torch.no_grad()
def _through(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    vae = _vae()
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1
    decoded = vae.decode(vae.encode(pixels).latent_dist.mode()).sample
    levels = ((decoded.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return levels.permute(0, 2, 3, 1).contiguous().numpy()
