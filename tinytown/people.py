"""Three simulated people who click discs on what looks wrong to them, and the map that is made of their clicks."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from tinytown.annotator import Annotation, mark

PEOPLE = (1.0, 0.65, 0.5)
"""Strictness of each person, as `annotator.mark` takes it: the last sees only what is twice as wrong."""

LARGEST_RADIUS = (5, 6, 4)
"""Of each person's discs, in pixels."""

SMALLEST_RADIUS = 3

COVERED = (0.90, 0.85, 0.85)
"""Share of a flaw at which each person has clicked enough."""

OVERLOOKED = 6.0
"""Area in pixels of a flaw that a person overlooks once in e = 2.7 times; a flaw twice as large, once in e^2."""

Mask = NDArray[np.bool_]


def clicks(annotation: Annotation, seed: int) -> Mask:
    """What each person marks of an image.

    Args:
        annotation: of the image; only its `wrong` is read.
        seed: of what is overlooked, and of how the clicks miss; people draw independently.

    Returns:
        bool [people, H, W]: a union of discs for each person.
    """
    people = range(len(PEOPLE))
    return np.stack(
        [_person(annotation.wrong, person, np.random.default_rng((seed, person))) for person in people]
    )


def richhf_map(marks: Mask) -> NDArray[np.uint8]:
    """The average of bool [people, H, W] in the form of RichHF-18k, uint8 [H, W]: 0, 85, 170, 255 for three."""
    share = np.count_nonzero(marks, axis=0) / len(marks)
    return np.rint(255 * share).astype(np.uint8)


def _person(wrong: NDArray[np.float32], person: int, rng: np.random.Generator) -> Mask:
    flaws, count = ndimage.label(mark(wrong, PEOPLE[person]), structure=np.ones((3, 3)))
    result = np.zeros(wrong.shape, bool)
    for number in range(1, count + 1):
        flaw = flaws == number
        if rng.random() >= np.exp(-np.count_nonzero(flaw) / OVERLOOKED):
            result |= _cover(flaw, LARGEST_RADIUS[person], COVERED[person], rng)
    return result


def _cover(flaw: Mask, largest_radius: int, share: float, rng: np.random.Generator) -> Mask:
    """Discs over a flaw, each where most of what is left lies, until `share` of it is under one."""
    area = np.count_nonzero(flaw)
    radius = int(np.clip(round(np.sqrt(area / np.pi)), SMALLEST_RADIUS, largest_radius))
    rows, columns = np.ogrid[: flaw.shape[0], : flaw.shape[1]]
    left, discs = flaw.copy(), np.zeros_like(flaw)
    while np.count_nonzero(left) > (1 - share) * area:
        # Padded, so that the border of the image is an edge of the flaw too.
        depth = ndimage.distance_transform_edt(np.pad(left, 1))[1:-1, 1:-1]
        row, column = np.unravel_index(np.argmax(depth), depth.shape) + rng.integers(-1, 2, 2)
        disc = (rows - row) ** 2 + (columns - column) ** 2 <= radius**2
        discs |= disc
        left &= ~disc
    return discs
