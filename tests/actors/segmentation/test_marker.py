"""Marks of images of several sizes: maps, masks and figures by hand, whichever images come together."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from actors.batch import Sample
from actors.errors import ModelError
from actors.images import encode_image, encode_scores, read_mask
from actors.segmentation import marker
from actors.segmentation.marker import Marker
from tests.actors.segmentation.test_scoring import Counting, bright

LEVELS = np.array([[255, 255, 0, 128], [0, 0, 0, 127], [51, 0, 127, 0]], np.uint8)


def sample(levels: np.ndarray, key: str = "a") -> Sample:
    return Sample(key, "", image=encode_image(np.dstack([levels] * 3)))


def map_of(sample: Sample) -> np.ndarray:
    assert sample.scores is not None
    with Image.open(io.BytesIO(sample.scores)) as image:
        assert image.mode == "I;16"
        return np.asarray(image)


def test_the_marks_of_an_image_by_hand() -> None:
    (found,) = Marker(bright, threshold=127 / 255)([sample(LEVELS)])
    assert np.array_equal(map_of(found), LEVELS.astype(int) * 257)  # 65535 / 255
    assert found.mask is not None
    marked = [[1, 1, 0, 1], [0, 0, 0, 1], [0, 0, 1, 0]]
    assert read_mask(found.mask).astype(int).tolist() == marked
    assert found.metrics == {
        "score": pytest.approx((2 * 255 + 128 + 2 * 127 + 51) / 255 / 12),
        "largest_score": 1.0,
        "marked_area": 5 / 12,
        "regions": 2,  # the lower one is connected by a corner
    }


def test_images_of_several_sizes_in_any_company() -> None:
    rng = np.random.default_rng(0)
    sizes = [(5, 9), (9, 5), (5, 9), (7, 7), (9, 5), (5, 9)]
    samples = [sample(rng.integers(0, 256, size, dtype=np.uint8), str(n)) for n, size in enumerate(sizes)]
    alone = [Marker(bright, threshold=0.4)([replace(one)])[0] for one in samples]
    scores = Counting()
    together = Marker(scores, threshold=0.4, batch_size=2)([replace(one) for one in samples])
    assert [one.key for one in together] == list("012345")
    assert together == alone
    assert scores.rows == [2, 1, 2, 1]


def test_rejected_images_pass_and_new_ones_are_rejected() -> None:
    before = Sample("r", "", stage="load", reason="damaged")

    def overflowing(images: np.ndarray) -> np.ndarray:
        return np.where(images[..., 0] == 255, np.nan, images[..., 0] / np.float32(255))

    found = Marker(overflowing, threshold=0.5)([before, sample(LEVELS), sample(np.zeros((3, 4), np.uint8))])
    assert [one.reason for one in found] == ["damaged", "not_finite", ""]
    assert found[1].stage == "predict" and found[1].scores is None


def test_a_detector_that_always_overflows_ends_the_run() -> None:
    with pytest.raises(ModelError, match="the detector overflows"):
        Marker(lambda images: np.full(images.shape[:3], np.nan), threshold=0.5)([sample(LEVELS)])


def test_large_images_come_one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(marker, "MOST_PIXELS", 30)
    scores = Counting()
    Marker(scores, threshold=0.5, batch_size=8)([sample(LEVELS, str(n)) for n in range(5)])
    assert scores.rows == [2, 2, 1]


def test_scores_are_stored_to_the_nearest_of_65536_levels() -> None:
    values = np.array([[0, 1, 0.5, 1 / 65535, 0.4 / 65535, 0.6 / 65535]], np.float32)
    with Image.open(io.BytesIO(encode_scores(values))) as image:
        assert np.asarray(image).tolist() == [[0, 65535, 32768, 1, 0, 1]]
