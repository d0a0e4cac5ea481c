"""Regions found and missed: small maps by hand."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from eval.metrics import RegionSums, region_counts


def mask(text: str) -> NDArray[np.bool_]:
    return np.array([[pixel == "#" for pixel in row] for row in text.split()])


TRUTH = mask("""
    ##...##
    ##...##
    .......
    #......
    .#.....""")  # 4 pixels, 4 pixels, and 2 that touch by a corner
PREDICTED = mask("""
    ###..#.
    ###....
    ...#...
    .......
    .#.....""")  # IoU 4/6; 1/4; nothing (it touches the first by a corner); 1/2


def test_regions_by_hand():
    """The first predicted region has 7 pixels: the one at its corner belongs to it. So its IoU is 4/7."""
    found = region_counts(TRUTH, PREDICTED, (0.1, 0.25, 0.3, 0.5, 0.6))
    assert found.tolist() == [[3, 0, 0], [3, 0, 0], [2, 1, 1], [2, 1, 1], [0, 3, 3]]


def test_an_iou_exactly_at_the_limit_counts():
    truth, predicted = np.ones((1, 10), np.bool_), np.zeros((1, 10), np.bool_)
    predicted[0, :3] = True
    assert region_counts(truth, predicted, (0.3, 0.31)).tolist() == [[1, 0, 0], [0, 1, 1]]


def test_one_to_one():
    """Three fragments of one region are one hit and two inventions, and one over two regions is one hit."""
    whole, fragments = mask("#######"), mask("##.##.#")
    assert region_counts(whole, fragments, (0.1,)).tolist() == [[1, 2, 0]]
    assert region_counts(fragments, whole, (0.1,)).tolist() == [[1, 0, 2]]
    # The first predicted overlaps both true ones, the second only the first: both can be matched.
    truth, predicted = mask("####.##"), mask("#.#####")
    assert region_counts(truth, predicted, (0.1,)).tolist() == [[2, 0, 0]]


def test_nothing_there():
    empty = np.zeros((5, 7), np.bool_)
    assert region_counts(empty, empty).tolist() == [[0, 0, 0]] * 3
    assert region_counts(TRUTH, empty).tolist() == [[0, 0, 3]] * 3
    assert region_counts(empty, PREDICTED).tolist() == [[0, 3, 0]] * 3


def test_ignored_pixels_belong_to_no_region():
    counted = np.zeros_like(TRUTH)
    counted[:, 4:] = True
    assert region_counts(TRUTH, PREDICTED, (0.1,), counted=counted).tolist() == [[1, 0, 0]]


def test_seven_parts_equal_the_whole():
    rng = np.random.default_rng(0)
    whole, parts = RegionSums(), [RegionSums() for _ in range(7)]
    tables = []
    for number in range(21):
        tables.append(region_counts(rng.random((12, 12)) < 0.15, rng.random((12, 12)) < 0.15))
        whole.add(number, tables[-1])
        parts[number % 7].add(number, tables[-1])
    for part in parts[1:]:
        parts[0].merge(part)
    hits, extra, missed = np.sum(tables, axis=0)[1].tolist()
    assert whole.counts(0.3).tolist() == [hits, extra, missed]
    assert whole.recall(0.3).value == pytest.approx(hits / (hits + missed))
    assert whole.precision(0.3).value == pytest.approx(hits / (hits + extra))
    assert whole.f1(0.3).value == pytest.approx(2 * hits / (2 * hits + extra + missed))
    for iou in (0.1, 0.3, 0.5):
        assert parts[0].recall(iou) == whole.recall(iou)
        assert parts[0].precision(iou) == whole.precision(iou)
