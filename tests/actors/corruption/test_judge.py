"""The judge on hand-made maps: territories, counts, reasons; and scores that are not finite."""

from __future__ import annotations

import numpy as np
import pytest

from actors.corruption.judge import Judge
from actors.corruption.judge_config import JudgeConfig
from actors.errors import ModelError

NOTHING = np.zeros((12, 24), bool)


def judge(scores=None, **changes: object) -> Judge:
    config = JudgeConfig(**{"kind": "detector", "folder": "x", "least_pixels": 4, **changes})  # type: ignore[arg-type]
    return Judge(config, scores or (lambda images: np.zeros(images.shape[:3], np.float32)), threshold=0.5)


def boxes(*places: tuple[slice, slice]) -> np.ndarray:
    found = NOTHING.copy()
    for place in places:
        found[place] = True
    return found


LEFT, RIGHT = (slice(4, 8), slice(2, 6)), (slice(4, 8), slice(16, 20))
TWO = boxes(LEFT, RIGHT)


def test_a_region_is_broken_by_what_changed_and_is_marked():
    after = boxes((slice(4, 6), slice(2, 6)), (slice(4, 8), slice(16, 20)))  # 8 pixels left, 16 right
    changed = boxes((slice(5, 8), slice(2, 6)))  # of these, 4 changed; none on the right
    found = judge().opinion(TWO, changed, before=NOTHING, after=after, margin=0)
    assert (found.regions, found.broken, found.why) == (2, 1, None)
    assert np.array_equal(found.judged, boxes((slice(5, 6), slice(2, 6))))


def test_one_pixel_less_is_legal():
    marked = boxes((slice(5, 6), slice(2, 5)))
    found = judge().opinion(TWO, TWO, before=NOTHING, after=marked, margin=0)
    assert found.broken == 0 and found.why is not None and not found.judged.any()
    assert found.why.reason == "legal"
    assert found.why.detail == (
        "the judge finds no artifact: it marks 3 changed pixels of a region that it did not mark before; at least 4 "
        "are required"
    )


def test_the_margin_belongs_to_the_nearest_region():
    """Columns 9 and 12 lie 4 from the left and 4 from the right region; 7 of the 8 rows of the image around."""
    near_left, near_right = boxes((slice(4, 8), slice(9, 10))), boxes((slice(4, 8), slice(12, 13)))
    one = judge(every_region=True)
    both = near_left | near_right
    assert one.opinion(TWO, both, before=NOTHING, after=both, margin=4).why is None
    assert one.opinion(TWO, both, before=NOTHING, after=both, margin=3).broken == 0
    alone = one.opinion(TWO, near_left, before=NOTHING, after=near_left, margin=7)
    assert alone.broken == 1 and alone.why is not None and alone.why.reason == "legal"
    assert np.array_equal(alone.judged, near_left)


def test_only_what_was_not_marked_before_makes_a_region_broken():
    before = boxes((slice(4, 8), slice(2, 5)))  # 12 of the 16 pixels of the left region; 4 are new
    found = judge().opinion(TWO, TWO, before=before, after=TWO, margin=0)
    assert (found.broken, found.why) == (2, None)
    assert np.array_equal(found.judged, TWO)  # with what was marked before
    more = before | boxes((slice(4, 5), slice(5, 6)))  # 3 are new
    found = judge().opinion(TWO, TWO, before=more, after=TWO, margin=0)
    assert (found.broken, found.why) == (1, None)
    assert np.array_equal(found.judged, boxes(RIGHT))


def test_what_was_marked_before_is_no_artifact_of_the_corruption():
    before = TWO & ~boxes((slice(4, 5), slice(16, 18)))  # 2 pixels of the right region are new
    found = judge().opinion(TWO, TWO, before=before, after=TWO, margin=0)
    assert found.why is not None and found.why.reason == "broken_before" and not found.judged.any()
    assert found.why.detail == (
        "the judge marks 16 changed pixels of a region, and marked all but 2 of them before; at least 4 new ones are "
        "required"
    )
    # The other region has no marked pixel, so it may still break.
    one_left = judge().opinion(TWO, TWO, before=boxes(LEFT), after=boxes(LEFT), margin=0)
    assert one_left.why is not None and one_left.why.reason == "legal"
    every = judge(every_region=True).opinion(TWO, TWO, before=boxes(LEFT), after=TWO, margin=0)
    assert every.broken == 1 and every.why is not None and every.why.reason == "broken_before"


def test_every_region_may_be_asked_for():
    one = boxes(LEFT)
    assert judge().opinion(TWO, TWO, before=NOTHING, after=one, margin=0).why is None
    found = judge(every_region=True).opinion(TWO, TWO, before=NOTHING, after=one, margin=0)
    assert found.broken == 1 and found.why is not None and found.why.reason == "legal"
    assert np.array_equal(found.judged, one)


def test_pixels_that_touch_at_a_corner_are_one_region():
    mask = boxes((slice(0, 2), slice(0, 2)), (slice(2, 4), slice(2, 4)))
    assert judge().opinion(mask, mask, before=NOTHING, after=mask, margin=0).regions == 1


@pytest.mark.parametrize(
    ("changes", "size", "least"),
    [
        ({"least_pixels": None}, (64, 64), 12),  # 0.0029 of 4,096 is 11.9
        ({"least_pixels": None}, (512, 512), 761),  # 760.2
        ({"least_pixels": None, "least_area": 0.1}, (10, 10), 10),
        ({"least_pixels": None, "least_area": 1e-9}, (10, 10), 1),
        ({"least_pixels": 7}, (512, 512), 7),
    ],
)
def test_the_least_number_of_pixels(changes: dict[str, object], size: tuple[int, int], least: int):
    assert judge(**changes).config.least(*size) == least


def test_a_score_at_the_threshold_is_marked_and_one_that_is_not_finite_is_none():
    def scores(images: np.ndarray) -> np.ndarray:
        found = images[..., 0].astype(np.float32) / 254
        found[images[..., 0] == 255] = np.nan
        return found

    images = [np.full((2, 2, 3), level, np.uint8) for level in (126, 127, 255)]
    first, second, third = judge(scores).marks(images)
    assert first is not None and second is not None
    assert not first.any() and second.all() and third is None
    assert judge(scores).marks([]) == []


def test_a_judge_that_overflows_is_no_judge():
    nan = judge(lambda images: np.full(images.shape[:3], np.nan, np.float32))
    with pytest.raises(ModelError, match="NaN or infinity for each of 1 images: the judge x overflows"):
        nan.marks([np.zeros((8, 8, 3), np.uint8)])
