"""The figures of the instrument, by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest

from actors.diffusion.model import DiffusionModel
from eval.labelled import Labelled
from tools.tinytown.instrument import CleanRenders, class_prior, clean_renders, measure, upper_recipe


def test_the_figures_of_three_objects_and_a_render() -> None:
    """A broken and an intact object in one image, one in an image without artifact, one in a clean render."""
    objects = np.zeros((2, 64, 64), np.uint8)
    objects[0, :10, :10], objects[0, 20:30, :10], objects[1, 40:50, :10] = 1, 2, 1
    masks = np.zeros((2, 64, 64), np.bool_)
    masks[0, :10, :10] = True
    scores = np.zeros((2, 64, 64), np.float32)
    scores[0, :10, :10], scores[0, 20:30, :10], scores[1, 40:50, :10] = 0.9, 0.2, 0.41
    split = Labelled(["a", "b"], ["", ""], np.zeros((2, 64, 64, 3), np.uint8), masks, None, objects)
    clean = CleanRenders(np.zeros((1, 64, 64, 3), np.uint8), objects[:1])
    of_clean = np.zeros((1, 64, 64), np.float32)
    of_clean[0, :10, :10], of_clean[0, 20:30, :10] = 0.95, 0.1
    found = measure(split, scores, clean, of_clean)
    assert found.threshold == 0.42 and found.iou_fg.value == 1 and found.average_precision == 1
    assert (found.auroc_within, found.auroc_clean, found.auroc_renders) == (1, 1, 0.5)
    assert found.area_clean == 0 and found.area_renders == pytest.approx(100 / 4096)
    assert json.loads(json.dumps(found.row())) == {
        "iou_fg": [1, 1, 1],
        "average_precision": 1,
        "object_auroc_within": 1,
        "object_auroc_clean": 1,
        "clean_area": 0,
    }


def test_the_class_prior_is_the_share_of_each_part() -> None:
    clean = clean_renders(DiffusionModel("tinytown").vae, range(1_060_000_000, 1_060_000_004))
    whole = np.ones((4, 64, 64), np.bool_)
    labelled = Labelled([*"abcd"], [""] * 4, clean.images, whole & (clean.objects > 0))
    scores = class_prior("tinytown/segmenter-convnext", labelled)(clean.images)
    assert scores[clean.objects > 0].mean() > 0.9 and scores[clean.objects == 0].mean() < 0.1


@pytest.mark.parametrize("kind", ["convnext", "swin"])
def test_the_upper_bound_learns_from_2000_labels(kind: str):
    recipe = upper_recipe(kind, steps=400, threads=1)
    (labelled,) = recipe.data
    assert (labelled.url, labelled.label) == ("tinytown/labelled-2000", "mask")
    assert recipe.model.checkpoint == f"tinytown/segmenter-{kind}" and recipe.iterations == 400
    assert recipe.validation is not None and recipe.validation.url == "tinytown/validation"
