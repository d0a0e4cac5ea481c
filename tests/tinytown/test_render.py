"""Images agree with their part masks, and with what is drawn by hand from the scene."""

from __future__ import annotations

import numpy as np

from tinytown.render import PARTS, render
from tinytown.scene import Scene, Thing, sample_scene


def part(name: str) -> int:
    return PARTS.index(name)


def test_equal_scenes_give_equal_bytes():
    one, two = render(sample_scene(11)), render(sample_scene(11))
    assert one.image.tobytes() == two.image.tobytes() and one.parts.tobytes() == two.parts.tobytes()


def test_shapes_and_values():
    rendering = render(sample_scene(4))
    assert rendering.image.shape == (64, 64, 3) and rendering.image.dtype == np.uint8
    assert rendering.parts.shape == rendering.things.shape == (64, 64)
    assert rendering.parts.max() < len(PARTS)
    assert np.array_equal(rendering.parts > 0, rendering.things > 0)


def test_parts_lie_inside_the_object_s_circle():
    for seed in range(60):
        scene = sample_scene(seed)
        rendering = render(scene)
        for number, thing in enumerate(scene.things, start=1):
            rows, columns = np.nonzero(rendering.things == number)
            x, y = thing.centre
            assert len(rows), thing
            assert np.hypot(columns + 0.5 - x, rows + 0.5 - y).max() <= thing.radius * 1.16 + 1, thing


def test_eyes_are_dark_in_the_middle_of_white():
    face = Thing("face", "huge", 8, 8, (("skin", "pale"), ("hair", "black"), ("mouth", "smile")))
    rendering = render(Scene("day", (face,)))
    for side in (-1, 1):
        x, y = 32 + side * 0.32 * 20, 33  # the pupil reaches 2 pixels from here, the white 3.8
        assert rendering.image[y, int(x)].max() < 90
        assert rendering.parts[y, int(x)] == part("face.eye")
        assert rendering.image[y, int(x - 2.9)].min() > 200


def test_a_sign_shows_its_letters():
    sign = Thing("sign", "huge", 8, 8, (("board", "white"), ("letters", "LTX")))
    letters = render(Scene("snow", (sign,))).parts == part("sign.letter")
    # The letters stand at -0.74, -0.20 and 0.34 radii of 20 pixels, 8 wide, between rows 26 and 35.
    assert letters[26:36, 17].all() and letters[35, 17:25].all() and not letters[27:33, 20:25].any()  # L
    assert letters[26, 28:36].all() and letters[27:35, 32].all() and not letters[29:35, 29].any()  # T
    assert letters[30, 42] and letters[26, 39] and letters[35, 46] and not letters[30, 39]  # X


def test_the_hour_hand_points_at_the_hour():
    clock = Thing("clock", "huge", 8, 8, (("rim", "black"), ("hour", "three"), ("minute", "oclock")))
    hands = render(Scene("day", (clock,))).parts == part("clock.hand")
    assert hands[32, 32:38].all()  # towards three
    assert hands[23:32, 32].all()  # towards twelve
    assert not hands[32, 20:28].any() and not hands[36:44, 32].any()
