"""Regions from a UperNet folder and from masks of the source."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from actors.batch import Sample
from actors.errors import ModelError, Reject
from actors.images import encode_image, encode_mask, read_mask
from actors.seeding import seed_for
from actors.segmentation.region_selector import RegionSelector
from actors.segmentation.regions_config import RegionsConfig
from actors.segmentation.segmenter import Segmenter
from tests.upernet import save_upernet


def clean(key: str, mask: np.ndarray | None = None) -> Sample:
    image = np.random.default_rng(5).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    return Sample(key, key, image=encode_image(image), mask=None if mask is None else encode_mask(mask))


def selector(scores=None, smallest: float = 0.01, largest: float = 0.5) -> RegionSelector:
    config = RegionsConfig(kind="source", smallest_area=smallest, largest_area=largest)
    return RegionSelector(config, scores)


def test_scores_are_the_artifact_class_s_probability(tmp_path: Path):
    segmenter = Segmenter(str(save_upernet(tmp_path / "net", bias=math.log(3))), batch_size=2, device="cpu")
    scores = segmenter(np.zeros((3, 64, 64, 3), np.uint8))
    assert scores.shape == (3, 64, 64) and scores.dtype == np.float32
    assert scores == pytest.approx(0.75, abs=1e-6)


def test_scores_do_not_depend_on_neighbours(tmp_path: Path):
    segmenter = Segmenter(str(save_upernet(tmp_path / "net")), batch_size=4, device="cpu")
    images = np.random.default_rng(1).integers(0, 255, (6, 64, 96, 3), dtype=np.uint8)
    np.testing.assert_allclose(segmenter(images)[:3], segmenter(images[:3]), rtol=0, atol=1e-6)


def test_a_checkpoint_with_other_classes_is_refused(tmp_path: Path):
    with pytest.raises(ModelError, match="has 150 classes; two are wanted"):
        Segmenter(str(save_upernet(tmp_path / "net", labels=150)), device="cpu")


def test_a_pickle_only_checkpoint_is_refused(tmp_path: Path):
    folder = save_upernet(tmp_path / "net")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(
        ModelError, match=r"has pytorch_model\.bin and no safetensors; a pickle is never loaded"
    ):
        Segmenter(str(folder), device="cpu")


def test_a_score_at_the_threshold_is_inside():
    scores = np.zeros((1, 64, 64), np.float32)
    scores[0, :8, :16] = 0.5
    (found,) = selector(lambda images: scores)([clean("a")])
    assert not found.rejected and found.mask is not None
    assert read_mask(found.mask).sum() == 128


@pytest.mark.parametrize(
    ("mask", "reason", "detail"),
    [
        (None, "no_mask", "the source gives no mask"),
        (np.zeros((64, 64), bool), "no_region", "no pixel"),
        (
            np.eye(64, dtype=bool) & (np.arange(64) < 9),
            "region_too_small",
            "the region has 0.22% of the image",
        ),
        (np.ones((64, 64), bool), "region_too_large", "the region has 100.00% of the image; at most 50.00%"),
    ],
)
def test_regions_that_will_not_do(mask: np.ndarray | None, reason: str, detail: str):
    (found,) = selector()([clean("a", mask)])
    assert (found.stage, found.reason) == ("select_region", reason)
    assert detail in found.detail


def test_no_region_is_an_empty_mask_of_the_image_s_size():
    broken, wide = Sample("b", "b"), clean("c")
    broken.reject("select_image", Reject("empty", "the file has no bytes"))
    wide.image = encode_image(np.zeros((32, 96, 3), np.uint8))
    items = [clean("a", np.ones((64, 64), bool)), broken, wide]
    found = RegionSelector(RegionsConfig(kind="none"))(items)
    assert [sample.reason for sample in found] == ["", "empty", ""] and found[1].mask is None
    for sample, shape in ((found[0], (64, 64)), (found[2], (32, 96))):
        mask = read_mask(sample.mask)
        assert mask.shape == shape and not mask.any()


def test_rejected_samples_pass_through():
    broken = Sample("b", "b")
    broken.reject("select_image", Reject("empty", "the file has no bytes"))
    mask = np.zeros((64, 64), bool)
    mask[10:30, 10:30] = True
    found = selector()([clean("a", mask), broken])
    assert [sample.reason for sample in found] == ["", "empty"]


def boxes(*corners: tuple[int, int], side: int = 8) -> np.ndarray:
    """A mask of squares; their first pixels."""
    mask = np.zeros((64, 64), bool)
    for row, column in corners:
        mask[row : row + side, column : column + side] = True
    return mask


FOUR = boxes((0, 0), (0, 20), (30, 0), (30, 20))


def chosen(share: float, key: str, *, seed: int = 3, smallest: float = 0.001) -> Sample:
    config = RegionsConfig(kind="source", share=share, smallest_area=smallest)
    (found,) = RegionSelector(config, seed=seed)([clean(key, FOUR)])
    assert not found.rejected
    return found


def drawn(key: str, seed: int = 3) -> list[float]:
    """The draws of the four regions, in the order of their first pixels."""
    return [seed_for(seed, key, "region", place) / 2**63 for place in range(4)]


def kept(sample: Sample) -> list[bool]:
    mask = read_mask(sample.mask)
    assert np.array_equal(mask & FOUR, mask)
    return [bool(mask[row, column]) for row, column in ((0, 0), (0, 20), (30, 0), (30, 20))]


def test_a_share_of_one_leaves_the_mask_as_it_is():
    found = chosen(1.0, "a")
    assert found.mask == encode_mask(FOUR) and (found.candidates, found.regions) == (0, 0)


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_regions_are_kept_by_their_draws_and_at_least_one(share: float):
    counts = []
    for key in map(str, range(40)):
        found, draws = chosen(share, key), drawn(key)
        wanted = [draw < share for draw in draws]
        if not any(wanted):
            wanted[draws.index(min(draws))] = True
        assert kept(found) == wanted, key
        assert (found.candidates, found.regions) == (4, sum(wanted))
        assert read_mask(found.mask).sum() == 64 * sum(wanted)
        counts.append(sum(wanted))
    assert min(counts) >= 1 and abs(sum(counts) / 160 - share) < 0.15


def test_another_seed_or_key_chooses_others():
    many = {tuple(kept(chosen(0.5, "a", seed=seed))) for seed in range(20)}
    assert len(many) > 5 and len({tuple(kept(chosen(0.5, str(key)))) for key in range(20)}) > 5


def test_more_regions_are_kept_until_they_are_large_enough():
    """Three of the four squares have 4.7 % of the image."""
    for key in map(str, range(10)):
        found, draws = chosen(0.01, key, smallest=0.04), drawn(key)
        assert kept(found) == [draw < max(draws) for draw in draws]


def test_what_touches_at_a_corner_is_kept_as_one():
    item = clean("a", boxes((0, 0), (8, 8), (16, 0)))
    (found,) = RegionSelector(RegionsConfig(kind="source", share=0.01))([item])
    assert (found.candidates, found.regions) == (1, 1) and read_mask(found.mask).sum() == 3 * 64


def test_the_limits_are_those_of_all_candidates():
    config = RegionsConfig(kind="source", share=0.25, largest_area=0.05)
    (found,) = RegionSelector(config)([clean("a", FOUR)])
    assert found.reason == "region_too_large" and found.candidates == 0
