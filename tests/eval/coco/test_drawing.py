"""Regions as masks: against rectangles by slices, masks typed by hand, and encodings computed by hand."""

from __future__ import annotations

import numpy as np
import pytest

from actors.errors import Reject
from eval.coco.annotations import Region
from eval.coco.drawing import Crowd, Drawing, draw
from tests.coco_files import HEIGHT, WIDTH, corners, rectangle, runs

SIZE = (WIDTH, HEIGHT)


def mask_of(text: str) -> np.ndarray:
    return np.array([[character == "#" for character in row] for row in text.split()])


def region(segmentation: object, *, crowd: bool = False, box: object = None) -> Region:
    return Region(segmentation, box, crowd, "artifact")


def drawn(*segmentations: object, size: tuple[int, int] = SIZE) -> np.ndarray:
    mask = draw(map(region, segmentations), size, Drawing())
    assert mask.ignored is None
    return mask.inside


def test_polygons_are_united():
    l_shape = [5, 5, 20, 5, 20, 10, 10, 10, 10, 30, 5, 30]
    expected = rectangle(5, 5, 20, 10) | rectangle(5, 10, 10, 30) | rectangle(40, 0, 60, 40)
    assert np.array_equal(drawn([l_shape, corners(40, 0, 60, 40)]), expected)
    assert np.array_equal(drawn([l_shape], [corners(40, 0, 60, 40)]), expected)
    assert np.array_equal(drawn(corners(40, 0, 60, 40)), rectangle(40, 0, 60, 40))  # a list of numbers alone


def test_a_polygon_that_reaches_beyond_the_image():
    assert np.array_equal(drawn([corners(-10, -10, 15, 12)]), rectangle(0, 0, 15, 12))
    assert np.array_equal(drawn([corners(50, 30, 70, 50)]), rectangle(50, 30, 60, 40))
    slightly = [float(number) + 3e-14 for number in corners(50, 30, 60, 40)]
    assert np.array_equal(drawn([slightly]), rectangle(50, 30, 60, 40))


def test_a_polygon_of_no_area_marks_nothing():
    assert not drawn([[5, 5, 10, 10, 20, 20]]).any()


def test_a_triangle_is_right_up_to_its_edge():
    inside = drawn([[10, 5, 50, 5, 10, 35]])
    rows, columns = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    beyond = (rows - 5) / 30 + (columns - 10) / 40 - 1  # of the long edge; a pixel is at most .06 wide
    sure = np.minimum(np.minimum(rows - 5, columns - 10), -beyond / 0.06)
    assert inside[sure > 1].all() and not inside[sure < -1].any()


@pytest.mark.parametrize(
    ("text", "counts", "compressed"),
    [
        (".... .##. .##.", [4, 2, 1, 2, 3], "42102"),
        ("#. #.", [0, 2, 2], "022"),
        ("## ##", [0, 4], "04"),
        (".. ..", [4], "4"),
        ("..#. ..#. .#.. .#..", [6, 4, 6], "646"),
        # Differences from the fourth number on: 1 - 6 is 11011 in five bits, 27, and 48 + 27 is `K`; 1 - 4 is `M`.
        ("##.. ##.# ##..", [0, 6, 4, 1, 1], "064KM"),
        (".#.# .#.# .#.# ...#", [4, 3, 5, 4], "4351"),
    ],
)
def test_encodings_typed_by_hand(text: str, counts: list[int], compressed: str):
    mask = mask_of(text)
    size = mask.shape[::-1]
    assert runs(mask)["counts"] == counts
    for given in (counts, compressed):
        found = drawn({"size": list(mask.shape), "counts": given}, size=size)
        assert np.array_equal(found, mask), given


def test_large_numbers_in_a_compressed_encoding():
    """1000 is 11111 01000: 8 with a sixth bit, 40, is `X`; then 31, whose highest bit is a sign, with it `o`, and 0."""
    down_the_columns = np.arange(2000)
    mask = ((down_the_columns >= 1000) & (down_the_columns < 1033)).reshape(40, 50).T
    # 33 is 00001 00001: 1 with the sixth bit is `Q`, and 1 is `1`; 967 is 00000 11110 00111: `W`, `n` and `0`.
    encoding = {"size": [50, 40], "counts": "Xo0Q1Wn0"}
    assert np.array_equal(drawn(encoding, size=(40, 50)), mask)


def test_uncompressed_encodings_of_any_mask():
    rng = np.random.default_rng(3)
    for share in (0.02, 0.5, 0.98):
        mask = rng.random((HEIGHT, WIDTH)) < share
        assert np.array_equal(drawn(runs(mask)), mask)


@pytest.mark.parametrize("crowd", ["ignore", "inside", "outside"])
def test_crowds(crowd: Crowd):
    regions = [region([corners(5, 5, 20, 20)]), region(runs(rectangle(10, 10, 30, 30)), crowd=True)]
    mask = draw(regions, SIZE, Drawing(crowd=crowd))
    own, crowds = rectangle(5, 5, 20, 20), rectangle(10, 10, 30, 30)
    assert np.array_equal(mask.inside, own | crowds if crowd == "inside" else own)
    if crowd == "ignore":
        assert mask.ignored is not None and np.array_equal(mask.ignored, crowds & ~own)
    else:
        assert mask.ignored is None


def test_boxes():
    for nothing in (None, []):
        alone = region(nothing, box=[10, 5, 20, 15])
        with pytest.raises(Reject, match="set boxes to inside") as why:
            draw([alone], SIZE, Drawing())
        assert why.value.reason == "box_only"
        found = draw([alone], SIZE, Drawing(boxes="inside"))
        assert np.array_equal(found.inside, rectangle(10, 5, 30, 20))


TOTAL = WIDTH * HEIGHT
HOSTILE = {
    "bad_polygon": [
        [[1, 2]],
        [[1, 2, 3, 4]],
        [[1, 2, 3, 4, 5]],
        [[]],
        [["a", "b", 1, 2, 3, 4]],
        [[True, 2, 3, 4, 5, 6]],
        [[float("nan"), 1, 2, 3, 4, 5]],
        [[float("inf"), 1, 2, 3, 4, 5]],
        [[10**400, 1, 2, 3, 4, 5]],
        [[1e30, 1, 2, 3, 4, 5]],
        [[2**31, 1, 2, 3, 4, 5]],
        [[0, 0, 400, 0, 400, 400]],
        [corners(0, 0, 5, 5), None],
        [[[0, 0], [0, 5], [5, 5]]],
        [0, 0, "1", 0, 1, 1],
        [[0, 0, 59, 39] * 40_000],
    ],
    "bad_rle": [
        {"size": [HEIGHT, WIDTH]},
        {"size": [WIDTH, HEIGHT], "counts": [TOTAL]},
        {"size": [10**9, 10**9], "counts": [10**18]},
        {"size": None, "counts": [TOTAL]},
        {"size": [HEIGHT, WIDTH], "counts": [TOTAL + 1]},
        {"size": [HEIGHT, WIDTH], "counts": [TOTAL - 1]},
        {"size": [HEIGHT, WIDTH], "counts": []},
        {"size": [HEIGHT, WIDTH], "counts": [-5, TOTAL + 5]},
        {"size": [HEIGHT, WIDTH], "counts": [float(TOTAL)]},
        {"size": [HEIGHT, WIDTH], "counts": [True, TOTAL - 1]},
        {"size": [HEIGHT, WIDTH], "counts": [0] * 5000 + [TOTAL]},
        {"size": [HEIGHT, WIDTH], "counts": 7},
        {"size": [HEIGHT, WIDTH], "counts": {}},
        {"size": [HEIGHT, WIDTH], "counts": ""},
        {"size": [HEIGHT, WIDTH], "counts": "0"},
        {"size": [HEIGHT, WIDTH], "counts": "ooooooooooo0"},
        {"size": [HEIGHT, WIDTH], "counts": "P"},
        {"size": [HEIGHT, WIDTH], "counts": "\ud800"},
        {"size": [HEIGHT, WIDTH], "counts": "é1"},
    ],
    "bad_region": ["polygon", 7, True],
    "no_region": [None, []],
}


@pytest.mark.parametrize(
    ("reason", "segmentation"), [(reason, one) for reason, those in HOSTILE.items() for one in those]
)
def test_hostile_regions_are_rejects(reason: str, segmentation: object):
    with pytest.raises(Reject) as why:
        drawn([corners(1, 1, 5, 5)], segmentation)
    assert why.value.reason == reason and why.value.detail.startswith("region 1 of the image: ")


@pytest.mark.parametrize(
    "box", [[1, 2, 3], "1234", [1, 2, 3, None], [1, 2, float("nan"), 4], [0, 0, 1e308, 1e308]]
)
def test_hostile_boxes_are_rejects(box: object):
    with pytest.raises(Reject) as why:
        draw([region(None, box=box)], SIZE, Drawing(boxes="inside"))
    assert why.value.reason in ("bad_region", "bad_polygon")
