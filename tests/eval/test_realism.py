"""AUC by hand, crops where they should be, and a network that finds a difference only where there is one."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from actors.errors import EvaluationError
from eval import realism
from eval.realism import SIDE, Crops, auc, crop, halves, tell_apart


def noise(count: int, seed: int, *, images: int | None = None) -> Crops:
    """Crops of noise, on a brightness of their own."""
    rng = np.random.default_rng(seed)
    base = rng.integers(60, 160, (count, 1, 1, 3))
    pixels = base + rng.integers(0, 60, (count, SIDE, SIDE, 3))
    return Crops(pixels.astype(np.uint8), np.arange(count) % (images or count))


def striped(crops: Crops) -> Crops:
    """The same with every other row a little darker."""
    pixels = crops.images.copy()
    pixels[:, ::2] -= 40
    return Crops(pixels, crops.groups)


def test_auc_counts_pairs_and_halves_ties():
    # 3 beats 1 and 2 and ties with 3: 2.5; 1 ties with 1: 0.5; of 6 pairs.
    assert auc(np.array([3.0, 1.0]), np.array([1.0, 2.0, 3.0])) == 3.0 / 6


def test_auc_equals_the_reference_with_many_ties():
    rng = np.random.default_rng(0)
    positive, negative = rng.integers(2, 9, 80).astype(float), rng.integers(0, 7, 50).astype(float)
    truth = np.repeat([1, 0], [80, 50])
    assert auc(positive, negative) == pytest.approx(
        roc_auc_score(truth, np.concatenate([positive, negative])), abs=1e-12
    )


def test_crops_are_centred_on_regions_and_stay_inside():
    images = np.zeros((2, 64, 64, 3), np.uint8)
    images[..., 0] = np.arange(64)[:, None]  # red tells the row, green the column
    images[..., 1] = np.arange(64)[None, :]
    masks = np.zeros((2, 64, 64), bool)
    masks[0, 28:36, 30:34] = True  # the middle is row 32, column 32
    masks[1, 0:4, 58:64] = True  # in a corner
    masks[1, 40, 10:15] = True  # five pixels are too few
    crops = crop(images, masks)
    assert crops.groups.tolist() == [0, 1]
    assert crops.images.shape == (2, 24, 24, 3)
    assert crops.images[0, 0, 0, :2].tolist() == [20, 20]
    assert crops.images[1, 0, 0, :2].tolist() == [0, 40]


def test_the_largest_regions_of_an_image_come_first():
    masks = np.zeros((1, 64, 64), bool)
    masks[0, 2:6, 2:6] = True  # 16 pixels
    masks[0, 30:40, 30:40] = True  # 100
    masks[0, 50:55, 10:16] = True  # 30
    image = np.zeros((1, 64, 64, 3), np.uint8)
    image[0, 35, 35] = 255
    crops = crop(image, masks, most=2)
    assert crops.groups.tolist() == [0, 0]
    assert crops.images[0].max() == 255 and crops.images[1].max() == 0


def test_pixels_that_touch_by_a_corner_are_one_region():
    masks = np.zeros((1, 64, 64), bool)
    masks[0, np.arange(12), np.arange(12)] = True
    assert len(crop(np.zeros((1, 64, 64, 3), np.uint8), masks).images) == 1


def test_no_regions_give_no_crops():
    crops = crop(np.zeros((3, 64, 64, 3), np.uint8), np.zeros((3, 64, 64), bool))
    assert crops.images.shape == (0, 24, 24, 3) and crops.groups.shape == (0,)


def test_halves_share_no_image():
    one, other = halves(noise(40, 1, images=10))
    assert len(one.images) + len(other.images) == 40
    assert len(np.unique(one.groups)) == len(np.unique(other.groups)) == 5
    assert not set(one.groups) & set(other.groups)


def test_stripes_are_told_apart_and_equal_kinds_are_not():
    wild = noise(40, 2)
    found = tell_apart(striped(noise(40, 3)), wild, steps=20, draws=200)
    assert found.value > 0.95 and found.low <= found.value <= found.high
    chance = tell_apart(noise(40, 3), wild, steps=5, draws=200)
    assert 0.25 < chance.value < 0.75


def test_no_image_is_asked_about_by_a_network_that_saw_it(monkeypatch: pytest.MonkeyPatch):
    injected, wild = noise(30, 4, images=10), noise(24, 5, images=8)
    asked: list[tuple[set[tuple[int, int]], set[tuple[int, int]]]] = []
    image_of = {
        crop.tobytes(): (0, number)
        for crop, number in zip(injected.images, injected.groups.tolist(), strict=True)
    }
    image_of |= {
        crop.tobytes(): (1, number) for crop, number in zip(wild.images, wild.groups.tolist(), strict=True)
    }

    def images(crops: np.ndarray) -> set[tuple[int, int]]:
        return {image_of[one.tobytes()] for one in crops}

    def scores(net: set[tuple[int, int]], crops: np.ndarray) -> np.ndarray:
        asked.append((net, images(crops)))
        return np.array([float(kind == 0) for kind, _ in (image_of[one.tobytes()] for one in crops)])

    monkeypatch.setattr(realism, "_train", lambda one, other, *_: images(one) | images(other))
    monkeypatch.setattr(realism, "_scores", scores)
    assert tell_apart(injected, wild).value == 1
    assert len(asked) == 10
    assert all(not seen & new and len(new) for seen, new in asked)
    assert set().union(*(new for _, new in asked)) == set(image_of.values())


def test_pairs_of_one_fold_only_are_compared(monkeypatch: pytest.MonkeyPatch):
    # Within each fold the two kinds score the same; the second fold's scores are far above the first's.
    calls = iter(range(10))
    monkeypatch.setattr(realism, "_train", lambda *_: None)
    monkeypatch.setattr(realism, "_scores", lambda _, crops: np.full(len(crops), float(next(calls) // 2)))
    assert tell_apart(noise(9, 6), noise(16, 7)).value == 0.5


def test_the_same_seed_gives_the_same_figure():
    one, other = noise(20, 6), striped(noise(20, 7))
    assert tell_apart(one, other, steps=2, draws=20) == tell_apart(one, other, steps=2, draws=20)


def test_too_few_images_are_refused():
    with pytest.raises(EvaluationError, match="at least 5"):
        tell_apart(noise(30, 8, images=4), noise(30, 9))
