"""Maps in tiles: equal to whole ones where the network is local, smooth across seams, bounded in memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter

from actors.errors import ArgumentError
from actors.segmentation.predictor import Predictor, spans
from actors.segmentation.segmenter import Segmenter, smallest_side
from tests.upernet import save_upernet

RADIUS = 4


class Local:
    """Stands for a network: the mean brightness of the 9 x 9 pixels around each pixel, black beyond the border."""

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []

    def __call__(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        self.shapes.append(images.shape)
        grey = images.mean(-1) / 255
        found = [uniform_filter(one, 2 * RADIUS + 1, mode="constant") for one in grey]
        return np.stack(found).astype(np.float32)


def noise(*shape: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("height", "width"), [(100, 130), (64, 65), (40, 200), (200, 40), (301, 97), (65, 64), (127, 129)]
)
def test_a_local_network_gives_the_same_map(height: int, width: int):
    """An overlap of 16 leaves 4 pixels out at every seam: the network's radius. True borders are those of the image."""
    local = Local()
    images = noise(2, height, width)
    found = Predictor(local, tile=64, overlap=16, batch_size=3)(images)
    assert found.shape == (2, height, width) and found.dtype == np.float32
    assert np.allclose(found, Local()(images), atol=1e-6)
    assert {shape[1:3] for shape in local.shapes} == {(min(height, 64), min(width, 64))}
    assert max(shape[0] for shape in local.shapes) <= 3


def test_what_fits_one_tile_is_scored_whole():
    for size in [(64, 64), (30, 64), (1, 1)]:
        images = noise(2, *size)
        local = Local()
        assert np.array_equal(Predictor(local, tile=64)(images), Local()(images))
        assert np.array_equal(Predictor(Local())(images), Local()(images))
        assert local.shapes == [images.shape]


@pytest.mark.parametrize("overlap", [0, 1, 3, 16, 32])
@pytest.mark.parametrize("length", [65, 90, 112, 113, 1000])
def test_weights_add_up_to_one_and_are_smooth(length: int, overlap: int):
    total = np.zeros(length)
    for place, weights in spans(length, 64, overlap):
        assert place.stop - place.start == 64 and weights.min() >= 0
        total[place] += weights
        if overlap == 32:  # a rise over 16 pixels: at most pi / 2 / 16 a pixel
            assert np.abs(np.diff(weights)).max() < 0.1 and min(weights[0], weights[-1]) <= 1e-6
    assert np.allclose(total, 1, atol=1e-6)


def test_tiles_by_hand():
    """Three tiles of 8 over 16 pixels with an overlap of 4: their starts are 0, 4 and 8."""
    found = spans(16, 8, 4)
    assert [(place.start, place.stop) for place, _ in found] == [(0, 8), (4, 12), (8, 16)]
    # One pixel out, then a quarter and three quarters of the way: sin^2 of 22.5 and 67.5 degrees.
    rise = [0, 0.1464466, 0.8535534, 1]
    assert np.allclose(found[0][1], [1, 1, 1, 1, *rise[::-1]], atol=1e-6)
    assert np.allclose(found[1][1], [*rise, *rise[::-1]], atol=1e-6)
    assert np.allclose(found[2][1], [*rise, 1, 1, 1, 1], atol=1e-6)


def test_constant_scores_stay_constant_and_within_range():
    for value in (1.0, 0.3):
        constant = Predictor(
            lambda images, value=value: np.full(images.shape[:3], value, np.float32), tile=32
        )
        found = constant(noise(1, 1000, 70))
        assert np.allclose(found, value, atol=1e-6) and found.max() <= 1


def test_a_network_in_tiles_and_on_images_that_are_too_small(tmp_path: Path):
    folder = save_upernet(tmp_path / "net")
    segmenter = Segmenter(str(folder), batch_size=2)
    assert smallest_side(segmenter.net.config) == 32
    predictor = Predictor(segmenter, tile=64, batch_size=2, smallest=32)
    small = noise(1, 20, 50)
    padded = np.concatenate([small, np.repeat(small[:, -1:], 12, axis=1)], axis=1)
    assert np.array_equal(predictor(small), segmenter(padded)[:, :20])
    long = predictor(noise(1, 10, 150))
    assert long.shape == (1, 10, 150) and np.isfinite(long).all()
    assert np.array_equal(predictor(noise(1, 64, 64)), segmenter(noise(1, 64, 64)))


def test_settings_that_are_not_allowed():
    with pytest.raises(ArgumentError, match="tile: found 16; allowed: at least 32"):
        Predictor(Local(), tile=16, smallest=32)
    with pytest.raises(ArgumentError, match="overlap: found 40; allowed: 0 to 32"):
        Predictor(Local(), tile=64, overlap=40)
    with pytest.raises(ArgumentError, match="overlap: found 4; allowed: nothing without tile"):
        Predictor(Local(), overlap=4)
