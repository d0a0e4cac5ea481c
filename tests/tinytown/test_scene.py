"""Captions lead back to their scenes, and only captions do."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinytown.scene import BACKGROUNDS, KINDS, Scene, Thing, caption, parse, sample_scene, vocabulary


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 2**62))
def test_a_caption_parses_back_to_its_scene(seed: int):
    scene = sample_scene(seed)
    assert parse(caption(scene)) == scene
    assert set(caption(scene).replace(",", "").split()) <= set(vocabulary())


def test_objects_stay_inside_and_apart():
    for seed in range(500):
        things = sample_scene(seed).things
        assert 1 <= len(things) <= 3
        for place, thing in enumerate(things):
            x, y = thing.centre
            assert min(x, y) - thing.radius >= 0 and max(x, y) + thing.radius <= 64
            for other in things[:place]:
                distance = ((x - other.centre[0]) ** 2 + (y - other.centre[1]) ** 2) ** 0.5
                assert distance >= thing.radius + other.radius - 1


def test_all_kinds_and_backgrounds_occur():
    scenes = [sample_scene(seed) for seed in range(400)]
    assert {scene.background for scene in scenes} == set(BACKGROUNDS)
    assert {thing.kind for scene in scenes for thing in scene.things} == set(KINDS)


def test_a_caption_in_words():
    clock = Thing("clock", "large", 6, 9, (("rim", "green"), ("hour", "seven"), ("minute", "thirty")))
    sign = Thing("sign", "small", 11, 3, (("board", "white"), ("letters", "HEN")))
    assert caption(Scene("snow", (clock, sign))) == (
        "a snow scene with a large green clock showing seven thirty at column six row nine, "
        "a small white sign reading H E N at column eleven row three"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a cat", "not a tinytown caption"),
        ("a moon scene with a small round green tree at column six row six", "not a tinytown caption"),
        ("a day scene with a small round blue tree at column six row six", "not an object of tinytown"),
        ("a day scene with a huge round green tree at column three row six", "reaches out of the picture"),
        (
            "a day scene with a small round green tree at column six row six, "
            "a small round green tree at column seven row six",
            "objects overlap",
        ),
    ],
)
def test_what_is_no_caption_is_reported(text: str, message: str):
    with pytest.raises(ValueError, match=message):
        parse(text)
