"""The annotator on images whose truth is known by construction; test_annotator_proof has hundreds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from tinytown.annotator import SMALLEST, annotate, difference, mark
from tinytown.fitting import fit
from tinytown.render import render
from tinytown.scene import CHOICES, Scene, Thing, parse, sample_scene

FACE = parse("a day scene with a huge face with tan skin black hair and a smile at column eight row eight")


def grey(level: int) -> NDArray[np.uint8]:
    return np.full((9, 9, 3), level, np.uint8)


@pytest.mark.parametrize("seed", range(6))
def test_an_image_of_the_caption_has_no_marks(seed: int):
    scene = sample_scene(90_000 + seed)
    annotation = annotate(render(scene).image, scene)
    assert not annotation.mask.any() and annotation.missing == ()
    for thing, placed in zip(scene.things, annotation.found, strict=True):
        assert placed is not None and placed.attributes == thing.attributes
        assert np.allclose(placed.centre, thing.centre, atol=0.5)


@pytest.mark.parametrize("kind", CHOICES)
def test_another_legal_image_has_no_marks(kind: str):
    """All words, the place and the size are others than the caption's; nothing in the image is broken."""
    last = tuple((name, "TAX" if name == "letters" else words[-1]) for name, words in CHOICES[kind].items())
    first = tuple((name, "HEN" if name == "letters" else words[0]) for name, words in CHOICES[kind].items())
    asked = Scene("day", (Thing(kind, "medium", 5, 11, first),))
    shown = Scene("day", (Thing(kind, "large", 11, 5, last),))
    annotation = annotate(render(shown).image, asked)
    assert not annotation.mask.any()
    (placed,) = annotation.found
    assert placed is not None and placed.attributes == last
    assert np.allclose(placed.centre, (44, 20), atol=0.5) and abs(placed.radius - 17) <= 0.5


def test_an_object_that_is_not_there_is_missing_and_not_marked():
    empty = render(Scene("day", ())).image
    annotation = annotate(empty, FACE)
    assert annotation.missing == (0,) and annotation.found == (None,) and not annotation.mask.any()


def test_an_object_that_nobody_asked_for_is_marked():
    both = Scene("day", (Thing("tree", "small", 4, 4, (("crown", "round"), ("leaf", "pink"))),))
    asked = Scene("day", ())
    rendering = render(both)
    mask = annotate(rendering.image, asked).mask
    inside = rendering.things > 0
    assert (mask & inside).sum() > 0.8 * inside.sum()
    assert not mask[30:].any()


def test_a_hole_in_a_face_is_marked_where_it_is():
    image = render(FACE).image.copy()
    image[40:47, 22:28] = (0, 200, 0)
    mask = annotate(image, FACE).mask
    assert mask[40:47, 22:28].mean() > 0.9
    mask[38:49, 20:30] = False
    assert not mask.any()


def test_two_of_a_kind_are_told_apart():
    words = (("side", "left"), ("skin", "pale"))
    one, two = Thing("hand", "small", 4, 4, words), Thing("hand", "small", 12, 12, words)
    annotation = annotate(render(Scene("night", (two, one))).image, Scene("night", (one, two)))
    centres = [placed.centre for placed in annotation.found if placed is not None]
    assert np.allclose(centres, [(16, 16), (48, 48)], atol=0.5)


def test_another_background_is_legal_too():
    shown = replace(FACE, background="snow")
    legal = fit(render(shown).image, FACE)
    assert legal.background == "snow" and np.array_equal(legal.image, render(shown).image)


def test_difference_by_hand():
    one, other = grey(100), grey(100)
    other[4, 4] = (100, 151, 100)
    # The point lies 51 above everything around it in the other image, and the other way too: it is found once.
    expected = np.zeros((9, 9))
    expected[4, 4] = 51 / 255
    assert np.allclose(difference(one, other), expected) and np.allclose(difference(other, one), expected)
    # An edge that moved by one pixel is no difference.
    one[:, :4], other = 200, grey(100)
    other[:, :5] = 200
    assert difference(one, other).max() == 0
    # By two pixels it is.
    other[:, :6] = 200
    assert np.array_equal(difference(one, other).max(axis=0) > 0, [c in (4, 5) for c in range(9)])


def test_marks_weigh_enough_and_follow_the_strictness():
    wrong = np.zeros((20, 20), np.float32)
    wrong[2, 2] = 1 + SMALLEST - 0.1  # too light
    wrong[10, 10:13] = 2.0  # weighs 3
    assert np.array_equal(np.argwhere(mark(wrong)), [(10, 10), (10, 11), (10, 12)])
    assert not mark(wrong, 0.5).any()  # exactly one tolerance: weighs nothing
    wrong[10, 10:13] = 4.0
    assert mark(wrong, 0.5).sum() == 3
