"""Known damage, planted in renders: what the annotator has to find. Shares no code with the annotator."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tests.tinytown.brush import Brush
from tests.tinytown.damages import DAMAGES, MIRRORED
from tinytown.render import backdrop, draw
from tinytown.scene import SIZE, Scene, sample_scene

KINDS = (
    "missing_eye",
    "moved_eye",
    "sixth_finger",
    "missing_finger",
    "fused_fingers",
    "smeared_letter",
    "mirrored_letter",
    "wheel_off",
    "bent_hand",
)


@dataclass(frozen=True)
class Planted:
    """A scene with one thing drawn wrong.

    Attributes:
        scene: what the image should show.
        place: which of the scene's things is damaged.
        clean: uint8 [64, 64, 3], the render.
        damaged: uint8 [64, 64, 3], the render with the damage.
        damage: bool [64, 64], where the two differ by more than 16 of 255 in a channel.
    """

    scene: Scene
    place: int
    clean: NDArray[np.uint8]
    damaged: NDArray[np.uint8]
    damage: NDArray[np.bool_]


def plant(kind: str, seed: int) -> Planted:
    """Draws a scene that holds the object of this kind of damage, and damages one.

    Args:
        kind: one of `KINDS`.
        seed: equal seeds give equal images.
    """
    rng = np.random.default_rng((KINDS.index(kind), seed))
    wanted, change = DAMAGES[kind]
    while True:
        scene = sample_scene(int(rng.integers(2**40)))
        things = [thing for thing in scene.things if thing.kind == wanted]
        if kind == "mirrored_letter":
            things = [thing for thing in things if set(MIRRORED) & set(thing["letters"])]
        if things:
            break
    thing = things[int(rng.integers(len(things)))]
    clean, damaged = backdrop(scene.background), backdrop(scene.background)
    labels = Image.new("L", clean.size, 0)
    for other in scene.things:
        draw(other, clean, labels)
        below = damaged.copy()
        draw(other, damaged, labels)
        if other is thing:
            change(Brush(damaged, below, thing), thing, rng)
    before, after = (
        np.asarray(canvas.resize((SIZE, SIZE), Image.Resampling.LANCZOS)) for canvas in (clean, damaged)
    )
    return Planted(scene, scene.things.index(thing), before, after, differs(before, after, 16))


def differs(one: NDArray[np.uint8], other: NDArray[np.uint8], least: int) -> NDArray[np.bool_]:
    """Where a channel of two images, uint8 [..., 3], differs by more than `least` of 255: bool [...]."""
    return np.abs(one.astype(np.int16) - other).max(axis=-1) > least
