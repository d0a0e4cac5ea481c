"""Regions from a UperNet folder and from masks of the source."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from actors.batch import Sample
from actors.errors import ModelError, Reject
from actors.images import encode_image, encode_mask, read_mask
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
