"""Scores stream in micro-batches, for the region selector and the artifact filter alike."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable

import numpy as np
import pytest
import torch

from actors.batch import Sample
from actors.errors import ModelError
from actors.finite import ENOUGH
from actors.images import encode_image, encode_mask, read_mask
from actors.segmentation.artifact_filter import ArtifactFilter
from actors.segmentation.region_selector import RegionSelector
from actors.segmentation.regions_config import RegionsConfig
from actors.segmentation.scoring import Scores, scored
from actors.selection_config import SelectionConfig

Stage = Callable[[list[Sample]], list[Sample]]


ANYWHERE = RegionsConfig(kind="source", smallest_area=0.0, largest_area=1.0)


def select(scores: Scores, batch_size: int = 4) -> Stage:
    return RegionSelector(ANYWHERE.model_copy(update={"batch_size": batch_size}), scores)


def leave_out(scores: Scores, batch_size: int = 4) -> Stage:
    config = SelectionConfig(largest_artifact_area=1.0, detector="scores")
    return ArtifactFilter(config, scores, batch_size=batch_size)


BOTH = pytest.mark.parametrize(
    ("make", "stage", "network"),
    [(select, "select_region", "segmenter"), (leave_out, "select", "detector")],
)


def shard(*levels: int) -> list[Sample]:
    return [
        Sample(f"s{place}", "", image=encode_image(np.full((32, 32, 3), level, np.uint8)))
        for place, level in enumerate(levels)
    ]


def bright(images: np.ndarray) -> np.ndarray:
    """The score of a pixel is its red level."""
    return images[..., 0].astype(np.float32) / 255


class Counting:
    """Notes the rows of every call, and how many arrays of earlier calls are still in memory."""

    def __init__(self) -> None:
        self.rows: list[int] = []
        self.alive: list[int] = []
        self._given: list[weakref.ref[np.ndarray]] = []

    def __call__(self, images: np.ndarray) -> np.ndarray:
        gc.collect()
        self.alive.append(sum(one() is not None for one in self._given))
        self.rows.append(len(images))
        scores = bright(images)
        self._given += [weakref.ref(images), weakref.ref(scores)]
        return scores


@BOTH
def test_a_shard_is_never_in_memory_as_a_whole(make, stage, network):
    counting = Counting()
    found = make(counting)(shard(*range(130, 250, 12)))
    assert counting.rows == [4, 4, 2]
    # The scores of one earlier batch may wait for the next one; its images do not.
    assert max(counting.alive) <= 1
    assert not any(sample.rejected for sample in found)


def test_masks_are_those_of_each_image_s_own_scores():
    found = select(bright)(shard(0, 127, 128, 255, 0, 200))
    assert [bool(read_mask(one.mask).all()) for one in found if one.mask] == [
        False,
        False,
        True,
        True,
        False,
        True,
    ]


@BOTH
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_scores_that_are_not_finite_reject_their_image_only(make, stage, network, value):
    def broken(images: np.ndarray) -> np.ndarray:
        scores = bright(images)
        scores[images[:, 0, 0, 0] == 7, 3, 3] = value
        return scores

    found = make(broken)(shard(200, 7, 220, 230, 240))
    wanted = make(bright)(shard(200, 7, 220, 230, 240))
    assert (found[1].stage, found[1].reason) == (stage, "not_finite")
    assert found[1].detail == f"the {network}'s scores hold NaN or infinity" and found[1].mask is None
    for number in (0, 2, 3, 4):
        assert found[number] == wanted[number]


@BOTH
def test_a_network_that_gives_nothing_else_stops_the_run(make, stage, network):
    def nan(images: np.ndarray) -> np.ndarray:
        return np.full(images.shape[:3], np.nan, np.float32)

    with pytest.raises(ModelError) as caught:
        make(nan)(shard(1, 2, 3))
    assert str(caught.value) == (
        f"NaN or infinity for each of 3 different images: the {network} overflows, or its weights are broken; "
        "take other weights"
    )

    def flat_images_only(images: np.ndarray) -> np.ndarray:
        flat = images.reshape(len(images), -1).std(1) == 0
        return np.where(flat[:, None, None], np.float32(np.nan), bright(images))

    found = make(flat_images_only)(shard(1, 2, 3))
    assert [sample.reason for sample in found] == ["not_finite"] * 3
    with pytest.raises(ModelError, match=f"each of {ENOUGH} different images"):
        make(flat_images_only)(shard(*range(ENOUGH)))


@BOTH
def test_no_memory_names_the_network_and_its_setting(make, stage, network):
    def full(images: np.ndarray) -> np.ndarray:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    with pytest.raises(ModelError) as caught:
        make(full)(shard(1, 2))
    assert str(caught.value) == (
        f"out of memory while scoring images ({network}) with regions.batch_size 4 at 32 x 32 pixels: "
        "set regions.batch_size to 2 or less (it is part of the digest: floats depend on it)"
    )


def test_other_errors_pass():
    def wrong(images: np.ndarray) -> np.ndarray:
        raise RuntimeError("shape mismatch")

    with pytest.raises(RuntimeError, match=r"^shape mismatch$"):
        list(scored(shard(1), wrong, batch_size=2, stage="s", network="n"))


def test_the_source_s_masks_need_no_scores():
    item = shard(1)[0]
    item.mask = encode_mask(np.ones((32, 32), bool))
    chosen = RegionSelector(ANYWHERE)([item])
    assert not chosen[0].rejected
