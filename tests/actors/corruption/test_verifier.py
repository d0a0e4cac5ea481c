"""The verifier's figures against values counted by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.corruption.verifier import Verifier, difference, widen
from actors.corruption.verifier_config import VerifierConfig

VERIFIER = Verifier(
    VerifierConfig(changed_threshold=0.1, least_inside=0.5, most_outside=0.02, margin=1), vae_scale_factor=2
)


def grey(value: int) -> np.ndarray:
    return np.full((20, 20, 3), value, np.uint8)


def test_difference_is_the_largest_channel_averaged_over_nine_pixels():
    before, after = grey(100), grey(100)
    after[10, 10] = (100, 190, 70)  # 90 up and 30 down: 90 counts
    found = difference(before, after)
    assert found[10, 10] == pytest.approx(90 / 9 / 255)
    assert found[9, 9] == pytest.approx(90 / 9 / 255)
    assert found[8, 10] == 0


def test_difference_does_not_wrap_around():
    assert difference(grey(0), grey(255)).min() == pytest.approx(1.0)
    assert difference(grey(255), grey(0)).min() == pytest.approx(1.0)


def test_shares_of_a_half_changed_region():
    mask = np.zeros((20, 20), bool)
    mask[4:8, 4:12] = True  # 32 pixels
    distance = np.zeros((20, 20), np.float32)
    distance[4:8, 4:8] = 0.4  # half of it
    distance[19, 0:3] = 0.2  # three pixels far outside
    changed, found = VERIFIER.measure(distance, mask)
    assert changed.sum() == 19
    assert found["mask_area"] == pytest.approx(32 / 400)
    assert found["changed_area"] == pytest.approx(19 / 400)
    assert found["change_inside"] == pytest.approx(0.5)
    # mask and two pixels around it: 8 x 12 = 96, which leaves 304
    assert found["change_outside"] == pytest.approx(3 / 304)
    assert found["difference_inside"] == pytest.approx(0.2)
    assert found["difference_outside"] == pytest.approx(3 * 0.2 / 304)
    assert VERIFIER.judge(found) is None


def test_reasons():
    unchanged = VERIFIER.judge({"change_inside": 0.03, "change_outside": 0.0})
    assert unchanged is not None and unchanged.reason == "unchanged"
    assert str(unchanged) == "3.0% of the region changed; at least 50.0% is asked"
    both = VERIFIER.judge({"mask_area": 0.2, "change_inside": 0.03, "change_outside": 0.1})
    assert both is not None and both.reason == "spilled"
    spilled = VERIFIER.judge({"mask_area": 0.2, "change_inside": 0.9, "change_outside": 0.1})
    assert spilled is not None and spilled.reason == "spilled"
    assert str(spilled) == "10.0% of the image beyond 2 pixels of the region changed; at most 2.0% is allowed"


def test_an_empty_mask_has_no_inside_and_everything_is_outside():
    distance = np.zeros((20, 20), np.float32)
    distance[3, 4:6] = 0.5
    clean = Verifier(VerifierConfig(least_inside=0.0, most_outside=0.005, margin=4), vae_scale_factor=8)
    changed, found = clean.measure(distance, np.zeros((20, 20), bool))
    assert changed.sum() == 2
    assert found == pytest.approx(
        {
            "mask_area": 0,
            "changed_area": 2 / 400,
            "change_inside": 0,
            "change_outside": 2 / 400,
            "difference_inside": 0,
            "difference_outside": 2 * 0.5 / 400,
        }
    )
    assert found["change_outside"] == found["changed_area"]
    assert clean.judge(found) is None
    distance[9, 9] = 0.1
    spilled = clean.judge(clean.measure(distance, np.zeros((20, 20), bool))[1])
    assert spilled is not None and spilled.reason == "spilled"
    assert str(spilled) == "0.75% of a clean negative changed; at most 0.5% is allowed"


def test_a_mask_over_everything_has_no_outside():
    _, found = VERIFIER.measure(np.ones((20, 20), np.float32), np.ones((20, 20), bool))
    assert found["change_outside"] == 0.0


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 9))
def test_widen_equals_a_plain_search(seed: int, pixels: int):
    mask = np.random.default_rng(seed).random((9, 13)) < 0.08
    wanted = np.zeros_like(mask)
    for y, x in zip(*np.nonzero(mask), strict=True):
        wanted[max(0, y - pixels) : y + pixels + 1, max(0, x - pixels) : x + pixels + 1] = True
    assert np.array_equal(widen(mask, pixels), wanted)
