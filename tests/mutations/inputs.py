"""What a mutated input is, and what must become of it."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

ACCEPTED = frozenset({"accepted"})
DAMAGED = frozenset({"damaged"})
NO_IMAGE = frozenset({"empty", "not_an_image", "damaged"})
PICTURE_ENDS = frozenset(
    {"accepted", "empty", "not_an_image", "too_many_pixels", "animated", "damaged", "too_small", "too_long"}
    | {"mask_size", "too_many_scans"}
)
"""What may become of an image with chance bits in it; its mask keeps the size that it had."""

MASK_ENDS = frozenset(
    {
        f"mask_{reason}"
        for reason in ("not_an_image", "damaged", "too_many_pixels", "animated", "too_many_scans")
    }
    | {"bad_mask"}
)
REGION_ENDS = frozenset({"no_mask", "no_region", "region_too_small", "region_too_large"})
CAPTION_ENDS = frozenset({"bad_caption"})
KNOWN = PICTURE_ENDS | MASK_ENDS | REGION_ENDS | CAPTION_ENDS | {"mask_size", "mask_empty", "too_many_bytes"}
KNOWN |= {"orientation_unclear", "too_much_text"}
"""Every way in which an item may end. What is not an item is counted by the listing instead."""

Colour = tuple[int, int, int]
Quarters = tuple[Colour, Colour, Colour, Colour]
"""Colours of a picture's upper left, upper right, lower left and lower right quarter."""


@dataclass(frozen=True)
class Item:
    """An image with its mask and its caption, to be put into a folder or into a tar.

    Attributes:
        kind: how it was mutated.
        files: content by extension; the image is first.
        ends: of `KNOWN`, those that are right.
        quarters: how it must look if it is accepted.
        caption: what it must be if the item is accepted; None where the generator does not say.
        route: `folder` or `tar`, where only one will do.
        stem: its name without extensions; empty for a number.
        inside: bool [64, 64], what its mask must be if it is accepted; None where the generator does not say.
        soft: the mask may differ from `inside` beside its edges.
    """

    kind: str
    files: Mapping[str, bytes]
    ends: frozenset[str] = ACCEPTED
    quarters: Quarters | None = None
    caption: str | None = None
    route: str = ""
    stem: str = ""
    inside: NDArray[np.bool_] | None = field(default=None, compare=False)
    soft: bool = False


@dataclass(frozen=True)
class Oddity:
    """Something in a folder that is no plain file.

    Attributes:
        make: puts it under a name into a folder; may point it to the canary's folder.
        skipped: what the listing counts for it.
        ends: of the one item that it is; None where it is none.
    """

    kind: str
    make: Callable[[Path, str, Path], None]
    skipped: Mapping[str, int] = field(default_factory=dict)
    ends: frozenset[str] | None = None


@dataclass(frozen=True)
class Tar:
    """A tar.

    Attributes:
        ends: `listed`, `refused`, or `either` where chance decides.
        samples: for a listed tar, how each of its samples must end, by stem.
        skipped: for a listed tar, what the listing counts.
    """

    kind: str
    data: bytes
    ends: str
    samples: Mapping[str, frozenset[str]] = field(default_factory=dict)
    skipped: Mapping[str, int] = field(default_factory=dict)


Input = Item | Oddity | Tar
Make = Callable[[int, random.Random], Input]


@dataclass(frozen=True)
class Kind:
    """A way to mutate: `make` gives the nth of `count` inputs, from a random state of its own."""

    name: str
    count: int
    make: Make


KINDS: list[Kind] = []


def kind(name: str, count: int) -> Callable[[Make], Make]:
    """Enters a way to mutate in `KINDS`."""

    def entered(make: Make) -> Make:
        KINDS.append(Kind(name, count, make))
        return make

    return entered
