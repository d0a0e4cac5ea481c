"""Leaks between sets of the embedded world: planted copies are found, and there is no false alarm."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from benchmarks.leaks import CHANGES, as_images, found_in, looks_of
from eval.leaks import SAME_BYTES, SAME_CAPTION, SAME_IMAGE, TEST_CROPS, Looks, caption_hash, find_leaks
from eval.splits import open_split

COUNT = 40


@pytest.fixture(scope="module")
def validation() -> tuple[list[Image.Image], Looks]:
    split = open_split("validation")
    tests = as_images(split.images[:COUNT])
    return tests, looks_of(tests, split.captions[:COUNT], TEST_CROPS)


@pytest.mark.parametrize("name", CHANGES)
def test_planted_copies_are_found(name: str, validation: tuple[list[Image.Image], Looks]):
    tests, looks = validation
    rng = np.random.default_rng(1)
    found = found_in([CHANGES[name](image, rng) for image in tests], [""] * COUNT, tests, looks)
    assert (found.of == np.arange(COUNT)).mean() >= 0.95
    assert set(found.how.values()) == {SAME_IMAGE}


def test_no_false_alarm(validation: tuple[list[Image.Image], Looks]):
    labelled = open_split("labelled")
    found = found_in(as_images(labelled.images), labelled.captions, *validation)
    assert len(found) == 0 and (found.of == -1).all()


def hashes(*values: int) -> np.ndarray:
    return np.array(values, np.uint64)


def unread(place: int) -> Image.Image:
    raise AssertionError(f"image {place} was read")


def test_bytes_and_captions_need_no_pixels():
    far = 0x5555555555555555
    data = Looks(
        hashes(7, 8, 0, 9), hashes(0, 0, 0, 0)[:, None], np.array([1, 1, 0, 1], np.bool_), hashes(0, 5, 6, 0)
    )
    test = Looks(
        hashes(1, 7, 0), hashes(far, far, 0)[:, None], np.array([1, 1, 0], np.bool_), hashes(6, 5, 0)
    )
    found = find_leaks(data, test, unread, unread)
    assert found.of.tolist() == [1, 1, 0, -1]
    assert found.how == {0: SAME_BYTES, 1: SAME_CAPTION, 2: SAME_CAPTION}
    assert found.counts == {SAME_BYTES: 1, SAME_CAPTION: 2}
    assert find_leaks(data, test, unread, unread, captions=False).of.tolist() == [1, -1, -1, -1]


def test_a_further_candidate_is_tried_where_the_nearest_is_another_image():
    """Equal hashes of other pixels do not hide the copy."""
    rng = np.random.default_rng(0)
    images = [Image.fromarray(rng.integers(0, 255, (40, 40, 3), np.uint8).astype(np.uint8)) for _ in range(3)]
    data = Looks(hashes(1), hashes(0)[:, None], np.ones(1, np.bool_), hashes(0))
    test = Looks(hashes(2, 3, 4), hashes(0, 0b111, 0b1)[:, None], np.ones(3, np.bool_), hashes(0, 0, 0))
    read: list[int] = []

    def read_test(place: int) -> Image.Image:
        read.append(place)
        return images[place]

    assert find_leaks(data, test, lambda _: images[1], read_test).of.tolist() == [1]
    assert read == [0, 2, 1]
    assert find_leaks(data, test, lambda _: images[1], read_test, nearness=2).of.tolist() == [-1]


def test_sets_of_nothing():
    empty = Looks(hashes(), hashes()[:, None], np.zeros(0, np.bool_), hashes())
    one = Looks(hashes(1), hashes(0)[:, None], np.ones(1, np.bool_), hashes(5))
    assert find_leaks(empty, one, unread, unread).of.tolist() == []
    assert find_leaks(one, empty, unread, unread).of.tolist() == [-1]


def test_captions_are_compared_without_case_and_white_space():
    assert caption_hash(" A  Red\nhouse ") == caption_hash("a red house") != caption_hash("a red houses")
    assert caption_hash(" \n") == caption_hash("") == 0
    assert caption_hash("\ud800") != 0
