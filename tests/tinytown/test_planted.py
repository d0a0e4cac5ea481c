"""The planted damage lies where it is stated, and is what its name states."""

from __future__ import annotations

import math

import numpy as np
import pytest
from PIL import Image

from tests.tinytown.brush import Brush
from tests.tinytown.damages import DAMAGES
from tests.tinytown.passage import Passed, is_visible, legal_scenes
from tests.tinytown.planted import KINDS, Planted, differs, plant
from tests.tinytown.proof import Finding, count_outside, is_found, outside_share, within_reach
from tinytown.render import SCALE, backdrop, draw, render
from tinytown.scene import Scene, Thing, sample_scene

SEEDS = range(8)


@pytest.mark.parametrize("kind", KINDS)
def test_damage_lies_on_the_object_and_the_rest_is_the_render(kind: str):
    for seed in SEEDS:
        planted = plant(kind, seed)
        assert np.array_equal(planted.clean, render(planted.scene).image)
        change = np.abs(planted.clean.astype(int) - planted.damaged).max(axis=-1)
        assert np.array_equal(planted.damage, change > 16) and planted.damage.any()
        thing = planted.scene.things[planted.place]
        assert thing.kind == DAMAGES[kind][0]
        rows, columns = np.nonzero(change > 16)
        x, y = thing.centre
        assert np.hypot(columns + 0.5 - x, rows + 0.5 - y).max() <= thing.radius * 1.25 + 2


@pytest.mark.parametrize("kind", KINDS)
def test_equal_seeds_give_equal_images_and_others_do_not(kind: str):
    one, again, other = plant(kind, 3), plant(kind, 3), plant(kind, 4)
    assert one.damaged.tobytes() == again.damaged.tobytes() and one.scene == again.scene
    assert one.damaged.tobytes() != other.damaged.tobytes()


def damaged(kind: str, thing: Thing, seed: int) -> np.ndarray:
    """An object alone in the day, damaged: uint8 [256, 256, 3], before the reduction."""
    canvas = backdrop("day")
    below = canvas.copy()
    draw(thing, canvas, Image.new("L", canvas.size, 0))
    DAMAGES[kind][1](Brush(canvas, below, thing), thing, np.random.default_rng(seed))
    return np.asarray(canvas)


def at(canvas: np.ndarray, x: float, y: float) -> list[int]:
    """The colour at a point of a huge object in the middle, in its own units."""
    return canvas[round((32 + 20 * y) * SCALE), round((32 + 20 * x) * SCALE)].tolist()


FACE = Thing("face", "huge", 8, 8, (("skin", "pale"), ("hair", "black"), ("mouth", "smile")))
HAND = Thing("hand", "huge", 8, 8, (("side", "left"), ("skin", "tan")))
CAR = Thing("car", "huge", 8, 8, (("paint", "red"), ("facing", "right")))
CLOCK = Thing("clock", "huge", 8, 8, (("rim", "red"), ("hour", "three"), ("minute", "oclock")))
PALE, TAN, INK = [250, 214, 184], [224, 170, 124], [36, 30, 40]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_missing_eye_leaves_skin(seed: int):
    canvas = damaged("missing_eye", FACE, seed)
    pupils = sorted([at(canvas, side * 0.32, 0.05) for side in (-1, 1)])
    assert pupils == [INK, PALE]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_moved_eye_is_at_least_three_tenths_away(seed: int):
    change = damaged("moved_eye", FACE, seed).astype(int) - damaged_nothing(FACE)
    rows, columns = np.nonzero(np.abs(change).max(axis=-1))
    points = np.stack([columns, rows], axis=1) / SCALE / 20 - 1.6
    away = [np.hypot(*(points - (side * 0.32, 0.04)).T).max() for side in (-1, 1)]
    assert min(away) >= 0.3 + 0.15  # the far rim of the eye, whose smaller radius is 0.16


def damaged_nothing(thing: Thing) -> np.ndarray:
    canvas = backdrop("day")
    draw(thing, canvas, Image.new("L", canvas.size, 0))
    return np.asarray(canvas)


def fingers(canvas: np.ndarray, reach: float) -> int:
    """How many separate runs of skin a circle around the middle of the wrist's end crosses."""
    angles = np.linspace(-math.pi * 0.95, -math.pi * 0.05, 2000)
    skin = [at(canvas, reach * math.cos(a), 0.42 + reach * math.sin(a)) == TAN for a in angles]
    return sum(now and not before for before, now in zip([False, *skin], skin, strict=False))


@pytest.mark.parametrize("seed", SEEDS)
def test_hands_have_a_finger_too_many_or_too_few(seed: int):
    assert fingers(damaged_nothing(HAND), 0.75) == 5
    assert fingers(damaged("sixth_finger", HAND, seed), 0.75) == 6
    assert fingers(damaged("missing_finger", HAND, seed), 0.75) == 4
    assert fingers(damaged("fused_fingers", HAND, seed), 0.75) == 4


@pytest.mark.parametrize("seed", SEEDS)
def test_a_wheel_is_off_and_the_body_stays(seed: int):
    canvas = damaged("wheel_off", CAR, seed)
    hubs = [at(canvas, x, 0.36) == [196, 196, 204] for x in (-0.5, 0.5)]
    assert hubs.count(True) == 1
    wheelless = -0.5 if hubs[1] else 0.5
    assert at(canvas, wheelless, 0.12) == [206, 48, 48]


@pytest.mark.parametrize("seed", SEEDS)
def test_the_end_of_a_hand_is_not_where_it_should_be(seed: int):
    canvas = damaged("bent_hand", CLOCK, seed)
    ends = [at(canvas, 0, -0.5) == INK, at(canvas, 0.36, 0) == INK]
    assert ends.count(True) == 1
    assert at(canvas, 0, -0.64) == [120, 120, 124]  # the ticks stay


def test_a_mirrored_letter_is_the_mirror_image():
    sign = Thing("sign", "huge", 8, 8, (("board", "white"), ("letters", "TEH")))
    canvas, clean = damaged("mirrored_letter", sign, 0), damaged_nothing(sign)
    # E is the second letter, at -0.2 .. 0.2: its long stroke goes from the left to the right.
    assert at(clean, -0.2, -0.15) == at(canvas, 0.2, -0.15) == [32, 44, 104]
    assert at(clean, 0.2, -0.15) == at(canvas, -0.2, -0.15) == [248, 248, 248]


def test_other_legal_images_of_signs_and_clocks_only():
    def scenes(kind: str) -> list[Scene]:
        return legal_scenes(plant(kind, 0))

    assert scenes("missing_eye") == scenes("fused_fingers") == []
    assert len(set(scenes("bent_hand"))) == 23
    letters = scenes("smeared_letter")
    assert len(set(letters)) == 21 and plant("smeared_letter", 0).scene not in letters  # 3 x 7


def passed(touched: np.ndarray, damage: np.ndarray) -> Passed:
    empty = np.zeros((64, 64, 3), np.uint8)
    return Passed(Planted(sample_scene(0), 0, empty, empty, damage), empty, empty, touched)


def test_found_is_four_pixels_or_a_fifth_within_two_pixels():
    damage = np.zeros((64, 64), bool)
    damage[20:30, 20:30] = True  # a fifth is 20, so 4 pixels do
    mask = np.zeros((64, 64), bool)
    mask[32, 20:23] = True  # 3 rows below row 29: out of reach
    mask[31, 20:23] = True  # 2 rows below: within
    assert not is_found(mask, passed(damage, damage))
    mask[31, 23] = True
    assert is_found(mask, passed(damage, damage))
    few = np.zeros((64, 64), bool)
    few[5, 5:15] = True  # 10 pixels: 2 do
    one = np.zeros((64, 64), bool)
    one[5, 5] = True
    assert not is_found(one, passed(few, few))
    one[5, 6] = True
    assert is_found(one, passed(few, few))


def test_outside_is_counted_from_what_the_vae_touched():
    damage, touched, mask = (np.zeros((64, 64), bool) for _ in range(3))
    damage[10, 10] = touched[10, 10] = touched[40, 40] = True
    mask[10, 12] = mask[12, 12] = mask[42, 40] = mask[50, 50] = True
    assert within_reach(damage).sum() == 13  # a disc of radius 2
    assert count_outside(mask, passed(touched, damage)) == 2  # (12, 12) is 2.8 away; (50, 50) is far


def test_the_share_outside_is_of_all_kinds_together():
    one = Finding("missing_eye", plants=10, found=9, marked=100, outside=20, tried=10)
    other = Finding("bent_hand", plants=10, found=9, marked=300, outside=0, tried=10)
    assert outside_share([one, other]) == 0.05


def test_what_the_vae_repairs_is_no_plant():
    planted = plant("wheel_off", 0)
    still_clean = Passed(planted, planted.clean, planted.clean, planted.damage)
    assert not is_visible(still_clean)
    assert differs(planted.clean, planted.damaged, 40).sum() >= 6
