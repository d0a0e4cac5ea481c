"""Tinytown as a source: which scenes are listed, and where their regions lie."""

from __future__ import annotations

import numpy as np
import pytest

from actors.errors import SourceError
from actors.images import read_image, read_mask
from factory.sources.choice import Choice
from factory.sources.tinytown import TinytownSource
from factory.sources.tinytown_regions import LARGEST, SMALLEST, draw_region, holds_any
from tinytown.render import PARTS, render
from tinytown.scene import CHOICES, Scene, Thing, parse, sample_scene

KINDS = {"face": "face", "hand": "hand", "letter": "sign"}


def test_lists_scenes_with_a_wanted_part_upwards() -> None:
    source = TinytownSource(first_seed=5, choice=Choice(limit=20), parts=["hand"], run_seed=0)
    listed = list(source.list())
    expected = [seed for seed in range(5, 500) if any(t.kind == "hand" for t in sample_scene(seed).things)][
        :20
    ]
    assert [reference.url for reference in listed] == [f"tinytown:{seed}" for seed in expected]
    assert [reference.key for reference in listed] == [f"tinytown-{seed:09d}" for seed in expected]
    assert all(reference.version == reference.member == "" for reference in listed)
    assert parse(listed[0].caption) == sample_scene(expected[0])
    assert source.skipped == {"no_wanted_part": expected[-1] - 5 + 1 - 20}
    assert list(source.list()) == listed, "listing again starts again"


def test_without_parts_every_scene_is_taken_and_no_region_drawn() -> None:
    source = TinytownSource(first_seed=5, choice=Choice(limit=20), parts=[], run_seed=0)
    listed = list(source.list())
    assert [reference.url for reference in listed] == [f"tinytown:{seed}" for seed in range(5, 25)]
    (_, raw), *_ = source.read(listed)
    assert raw.mask is None and (read_image(raw.image) == render(sample_scene(5)).image).all()


def test_reads_the_image_its_region_and_its_caption() -> None:
    source = TinytownSource(choice=Choice(limit=30), run_seed=3)
    listed = list(source.list())
    for (reference, raw), wanted in zip(source.read(listed[::-1]), listed[::-1], strict=True):
        assert reference is wanted
        rendered = render(sample_scene(int(reference.url.split(":")[1])))
        assert (read_image(raw.image) == rendered.image).all()
        assert raw.caption == reference.caption
        mask = read_mask(raw.mask)
        assert mask.shape == (64, 64)
        assert SMALLEST <= mask.mean() <= LARGEST


def test_regions_depend_on_run_seed_and_key_only() -> None:
    source = TinytownSource(choice=Choice(limit=12), run_seed=3)
    listed = list(source.list())
    masks = {reference.key: raw.mask for reference, raw in source.read(listed)}
    again = TinytownSource(first_seed=99, choice=Choice(limit=1), run_seed=3)
    assert {reference.key: raw.mask for reference, raw in again.read(listed[::-1])} == masks
    other = {
        reference.key: raw.mask
        for reference, raw in TinytownSource(choice=Choice(limit=12), run_seed=4).read(listed)
    }
    assert sum(other[key] != masks[key] for key in masks) > 6


@pytest.mark.parametrize("part", KINDS)
def test_regions_lie_on_objects_with_the_part(part: str) -> None:
    """A region lies on its object, and reaches a few pixels beyond it at most."""
    for seed in range(400):
        scene = sample_scene(seed)
        assert holds_any(scene, (part,)) == any(thing.kind == KINDS[part] for thing in scene.things)
        if not holds_any(scene, (part,)):
            continue
        rendered = render(scene)
        mask = draw_region(scene, rendered, (part,), np.random.default_rng(seed))
        assert SMALLEST <= mask.mean() <= LARGEST
        for y, x in np.argwhere(mask):
            near = [
                thing
                for thing in scene.things
                if thing.kind == KINDS[part]
                and (x - thing.centre[0]) ** 2 + (y - thing.centre[1]) ** 2 <= (1.05 * thing.radius + 3) ** 2
            ]
            assert near, (seed, y, x)


def everything(kind: str) -> list[Scene]:
    """One object in the middle, in every size, with the first and the last value of every attribute."""
    scenes = []
    for size in ("small", "medium", "large", "huge"):
        for place in (0, -1):
            attributes = tuple(
                (name, values[place] * 3 if name == "letters" else values[place])
                for name, values in CHOICES[kind].items()
            )
            scenes.append(Scene("day", (Thing(kind, size, 8, 8, attributes),)))
    return scenes


@pytest.mark.parametrize(("kind", "labels"), [("face", 4), ("hand", 4), ("sign", 4)])
def test_every_region_of_an_object_comes_up(kind: str, labels: int) -> None:
    """Each draw covers whole parts, and over many draws all the regions that are offered are drawn."""
    part = {"face": "face", "hand": "hand", "sign": "letter"}[kind]
    drawn = set()
    for scene in everything(kind):
        rendered = render(scene)
        assert (rendered.things <= 1).all()
        for seed in range(60):
            mask = draw_region(scene, rendered, (part,), np.random.default_rng(seed))
            covered = [
                name
                for number, name in enumerate(PARTS)
                if name.startswith(kind)
                and mask[rendered.parts == number].all()
                and (rendered.parts == number).any()
            ]
            half = "left" if mask[:, :32].sum() > 1.5 * mask[:, 32:].sum() else ""
            half = half or ("right" if mask[:, 32:].sum() > 1.5 * mask[:, :32].sum() else "")
            drawn.add((*covered, half))
    assert len(drawn) >= labels, drawn
    if kind == "face":
        names = {regions[:-1] for regions in drawn}
        assert ("face.eye",) in names or any("face.eye" in n and "face.skin" not in n for n in names)
        assert ("face.mouth",) in names
        assert any({"face.skin", "face.hair", "face.eye", "face.nose", "face.mouth"} <= set(n) for n in names)


def test_a_region_of_a_hand_reaches_one_or_two_pixels_beyond_it() -> None:
    """In steps along rows and columns, worked out by a plain search for the nearest pixel of the hand."""
    scene = Scene(
        "day", (Thing("hand", "medium", 8, 8, tuple((k, v[0]) for k, v in CHOICES["hand"].items())),)
    )
    rendered = render(scene)
    hand, everywhere = np.argwhere(rendered.things == 1), np.argwhere(np.ones((64, 64), bool))
    steps = np.abs(everywhere[:, None] - hand).sum(axis=2).min(axis=1).reshape(64, 64)
    reaches = set()
    for seed in range(60):
        mask = draw_region(scene, rendered, ("hand",), np.random.default_rng(seed))
        if mask[rendered.things == 1].all():
            reaches.add(steps[mask].max())
            assert np.array_equal(mask, steps <= steps[mask].max())
    assert reaches == {1, 2}


def test_one_letters_box_leaves_the_other_letters_alone() -> None:
    letter = PARTS.index("sign.letter")
    for scene in everything("sign"):
        rendered = render(scene)
        columns = np.flatnonzero((rendered.parts == letter).any(axis=0))
        for seed in range(40):
            mask = draw_region(scene, rendered, ("letter",), np.random.default_rng(seed))
            inside = mask & (rendered.parts == letter)
            share = inside.sum() / (rendered.parts == letter).sum()
            # three equal letters: a box holds one, two or all of them
            assert min(abs(share - third) for third in (1 / 3, 2 / 3, 1)) < 0.07, (seed, share, columns)


def test_about_a_third_of_scenes_with_two_objects_get_two_regions() -> None:
    two = drawn = 0
    for seed in range(1500):
        scene = sample_scene(seed)
        if sum(thing.kind in KINDS.values() for thing in scene.things) < 2:
            continue
        rendered = render(scene)
        mask = draw_region(scene, rendered, tuple(KINDS), np.random.default_rng([7, seed]))
        touched = [
            (mask & (rendered.things == number)).sum() > 12 for number in range(1, len(scene.things) + 1)
        ]
        drawn += 1
        two += sum(touched) >= 2
    assert drawn > 200
    assert 0.22 < two / drawn < 0.42


def test_what_cannot_be_asked_for() -> None:
    with pytest.raises(SourceError, match=r"source\.limit"):
        next(TinytownSource(choice=Choice(limit=None), run_seed=0).list())
    with pytest.raises(SourceError, match="clock"):
        TinytownSource(choice=Choice(limit=1), parts=["clock"], run_seed=0)
