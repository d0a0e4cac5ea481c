"""Augmentation: labels stay with their pixels, and everything follows from seed, step and slot."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from train.augmentation import augment
from train.recipe import Augmentation

Pixels = NDArray[np.uint8]


def numbered(height: int, width: int) -> tuple[Pixels, Pixels]:
    """An image whose red is the row and green the column, with a label that is a function of both."""
    rows, columns = np.mgrid[:height, :width].astype(np.uint8)
    image = np.stack([rows, columns, np.full_like(rows, 77)], axis=2)
    return image, label_at(rows, columns)


def label_at(rows: Pixels, columns: Pixels) -> Pixels:
    return np.where((rows * 7 + columns * 3) % 5 == 0, 255, (rows // 3 + columns // 2) % 2).astype(np.uint8)


def drawn(image: Pixels, label: Pixels, settings: Augmentation, **place: int) -> tuple[Pixels, Pixels]:
    return augment(image, label, settings, **{"seed": 0, "step": 0, "slot": 0, **place})


@pytest.mark.parametrize(("height", "width"), [(40, 60), (16, 16), (17, 90)])
def test_a_crop_is_a_window_and_the_label_that_of_its_pixels(height: int, width: int) -> None:
    image, label = numbered(height, width)
    corners, flips = set(), 0
    for slot in range(200):
        found, mark = drawn(image, label, Augmentation(crop=16), slot=slot)
        assert found.shape == (16, 16, 3) and mark.shape == (16, 16) and found.dtype == mark.dtype == np.uint8
        assert (mark == label_at(found[..., 0], found[..., 1])).all() and (found[..., 2] == 77).all()
        left, right = int(found[0, 0, 1]), int(found[0, -1, 1])
        flips += left > right
        columns = range(min(left, right), max(left, right) + 1)
        expected = list(reversed(columns)) if left > right else list(columns)
        assert len(expected) == 16 and (found[..., 1] == expected).all()
        assert (found[..., 0] == int(found[0, 0, 0]) + np.arange(16)[:, None]).all()
        corners.add((int(found[0, 0, 0]), min(left, right)))
    # Of 200 throws of a coin: 100 +- 7.
    assert 60 < flips < 140
    tops, lefts = {top for top, _ in corners}, {left for _, left in corners}
    assert min(tops) == 0 and min(lefts) == 0 and max(tops) == height - 16
    assert max(lefts) >= 0.9 * (width - 16)


@pytest.mark.parametrize("flip", [0.0, 1.0])
def test_flips(flip: float) -> None:
    image, label = numbered(6, 9)
    found, mark = drawn(image, label, Augmentation(flip=flip))
    step = -1 if flip else 1
    assert (found == image[:, ::step]).all() and (mark == label[:, ::step]).all()


def test_small_images_are_padded_with_ignored_pixels() -> None:
    image, label = numbered(20, 10)
    image += 1
    label[:] = 1
    found, mark = drawn(image, label, Augmentation(crop=32, flip=0))
    assert (found[:20, :10] == image).all() and (mark[:20, :10] == 1).all()
    found[:20, :10], mark[:20, :10] = 0, 255
    assert not found.any() and (mark == 255).all()


def test_a_class_may_not_cover_too_much() -> None:
    """The chance of a random crop to be within the limit is counted over all its places; ten are tried."""
    image, label = np.zeros((128, 128, 3), np.uint8), np.zeros((128, 128), np.uint8)
    label[40:72, 40:72] = 1
    every = np.array([[label[t : t + 32, u : u + 32].mean() for u in range(97)] for t in range(97)])

    def shares(largest: float) -> NDArray[np.float64]:
        settings = Augmentation(crop=32, largest_share=largest)
        return np.array([drawn(image, label, settings, slot=slot)[1].mean() for slot in range(400)])

    def within(marks: NDArray[np.float64], largest: float) -> float:
        return float(((marks > 1 - largest) & (marks < largest)).mean())

    for largest in (0.75, 0.9, 1.0):
        chance = within(every, largest)
        assert 0.05 < chance < 0.5
        expected = 1 - (1 - chance) ** 10
        deviation = (expected * (1 - expected) / 400) ** 0.5
        assert within(shares(largest), largest) == pytest.approx(expected, abs=4 * deviation + 1e-9)
    # No crop can be within a limit of 0: the tenth is taken, whatever it has.
    assert within(shares(0.0), 0.75) == pytest.approx(within(every, 0.75), abs=0.06)


def test_ignored_pixels_are_no_class() -> None:
    """Half of the known pixels are of each class, though ignored ones are most of all."""
    image, label = np.zeros((64, 16, 3), np.uint8), np.full((64, 16), 255, np.uint8)
    label[:, :2], label[:, 2:4] = 0, 1
    image[:, 0, 0] = np.arange(64)
    first = drawn(image, label, Augmentation(crop=16, flip=0, largest_share=0.75))[0]
    # The first try is taken, which is that without a limit that could be met.
    assert (first == drawn(image, label, Augmentation(crop=16, flip=0, largest_share=0.51))[0]).all()


def test_scales() -> None:
    """A square of a quarter of the image stays one, and scales spread over the range."""
    image, label = np.zeros((64, 64, 3), np.uint8), np.zeros((64, 64), np.uint8)
    image[16:48, 16:48], label[16:48, 16:48] = 255, 1
    sides = []
    for slot in range(100):
        settings = Augmentation(resize=(0.5, 2.0), crop=128, flip=0)
        found, mark = drawn(image, label, settings, slot=slot)
        sides.append(int((mark != 255).any(0).sum()))
        assert set(np.unique(mark)) <= {0, 1, 255}
        assert (mark == 1).sum() == pytest.approx(sides[-1] ** 2 / 4, rel=0.15)
        assert ((found[..., 0] > 127) == (mark == 1)).mean() > 0.98
    assert 32 <= min(sides) < 40 and 120 < max(sides) <= 128 and np.mean(sides) == pytest.approx(80, abs=10)


def test_colours() -> None:
    image, label = np.full((4, 4, 3), 128, np.uint8), np.zeros((4, 4), np.uint8)
    means = []
    for slot in range(200):
        found, mark = drawn(image, label, Augmentation(colour=0.1), slot=slot)
        assert (found == found[0, 0]).all() and not mark.any()
        means.append(found[0, 0])
    changes = np.array(means).astype(int) - 128
    # Gain and offset of at most 0.1: 12.8 + 25.5.
    assert np.abs(changes).max() <= 38 and changes.min() < -20 and changes.max() > 20
    assert np.abs(changes.mean(0)).max() < 5 and np.abs(np.corrcoef(changes.T)[0, 1]) < 0.3
    white = drawn(np.full((4, 4, 3), 255, np.uint8), label, Augmentation(colour=1.0))[0]
    assert white.dtype == np.uint8


def test_seed_step_and_slot_decide() -> None:
    image, label = numbered(64, 64)
    settings = Augmentation(resize=(0.5, 2.0), crop=16, colour=0.2)
    before = image.copy()
    places = [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (0, 1, 1)]
    found = [augment(image, label, settings, seed=s, step=t, slot=u)[0].tobytes() for s, t, u in places]
    assert len(set(found)) == len(places) and (image == before).all()
    again = [augment(image, label, settings, seed=s, step=t, slot=u)[0].tobytes() for s, t, u in places]
    assert found == again


def test_without_settings_nothing_changes() -> None:
    image, label = numbered(10, 12)
    found, mark = drawn(image, label, Augmentation(flip=0))
    assert (found == image).all() and (mark == label).all() and found.flags.c_contiguous
