"""Images that have artifacts already are left out."""

from __future__ import annotations

import numpy as np

from actors.batch import Sample
from actors.errors import Reject
from actors.images import encode_image
from actors.segmentation.artifact_filter import ArtifactFilter
from actors.selection_config import SelectionConfig


def clean(key: str, level: int) -> Sample:
    return Sample(key, key, image=encode_image(np.full((64, 64, 3), level, np.uint8)))


def config(area: float, threshold: float = 0.5) -> SelectionConfig:
    return SelectionConfig(largest_artifact_area=area, detector="scores", detector_threshold=threshold)


def scores(images: np.ndarray) -> np.ndarray:
    """As many rows of pixels are artifacts, at 0.5, as the image is bright."""
    marks = np.zeros(images.shape[:3], np.float32)
    for mark, image in zip(marks, images, strict=True):
        mark[: image[0, 0, 0]] = 0.5
    return marks


def test_what_is_above_the_area_is_rejected_with_the_figure():
    leave_out = ArtifactFilter(config(0.25), scores)
    found = leave_out([clean("none", 0), clean("as much", 16), clean("more", 17)])
    assert [sample.reason for sample in found] == ["", "", "artifacts_already"]
    assert (found[2].stage, found[2].detail) == (
        "select",
        "the detector sees artifacts on 26.56% of the image; at most 25.00%",
    )
    strict = ArtifactFilter(config(0.0, threshold=0.51), scores)
    assert not strict([clean("more", 64)])[0].rejected


def test_rejected_samples_are_not_looked_at():
    broken = Sample("b", "b")
    broken.reject("select_image", Reject("empty", "the file has no bytes"))
    seen = []

    def counted(images: np.ndarray) -> np.ndarray:
        seen.append(len(images))
        return scores(images)

    leave_out = ArtifactFilter(config(0.0), counted)
    assert [sample.reason for sample in leave_out([broken, clean("a", 0)])] == ["empty", ""]
    assert leave_out([broken]) == [broken]
    assert seen == [1]
