"""The stage `select` as the recipe sets it up: what has artifacts already is left out before regions are found."""

from __future__ import annotations

import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import tinytown
from actors.batch import Sample
from actors.images import encode_image, encode_mask, read_image
from actors.models import fingerprint
from actors.segmentation.segmenter import Segmenter
from factory.output.identity import Identity, devices_of
from factory.pipeline.outlook import outlook
from factory.pipeline.stages import region_selector
from factory.recipe.recipe import Recipe, parse_recipe
from tinytown.render import render
from tinytown.scene import sample_scene

RECIPE = """\
name: clean
source: {kind: tinytown, size: 64}
regions: {kind: source}
"""
CHECKED = f"{RECIPE}selection: {{largest_artifact_area: 0.25, detector: tinytown/regions-convnext}}\n"


def recipe(text: str = CHECKED, *overrides: str) -> Recipe:
    return parse_recipe(text, "mine.yaml", overrides)


def sample(key: str, image: np.ndarray) -> Sample:
    mask = np.zeros((64, 64), bool)
    mask[20:30, 20:30] = True
    return Sample(key, key, image=encode_image(image), mask=encode_mask(mask))


def renders(count: int) -> list[Sample]:
    return [sample(f"clean-{seed}", render(sample_scene(seed)).image) for seed in range(count)]


def wild(count: int) -> list[Sample]:
    """Pictures that the embedded generator drew, with the artifacts that it makes by itself."""
    with tarfile.open(Path(tinytown.__file__).parent / "splits/wild/000000.tar") as archive:
        names = [name for name in archive.getnames() if name.endswith(".webp")][:count]
        streams = [archive.extractfile(name) for name in names]
        return [
            sample(name, np.asarray(Image.open(stream).convert("RGB")))
            for name, stream in zip(names, streams, strict=True)
            if stream is not None
        ]


def test_a_shipped_net_leaves_out_more_wild_images_than_clean_ones() -> None:
    images = {"clean": renders(100), "wild": wild(100)}
    select = region_selector(recipe(CHECKED, "selection.largest_artifact_area=0.03"))
    kept = {name: [not one.rejected for one in select(some)] for name, some in images.items()}
    assert len(kept["clean"]) == len(kept["wild"]) == 100
    assert sum(kept["clean"]) >= sum(kept["wild"]) + 4
    assert sum(kept["wild"]) > 0


def test_the_figure_is_the_share_of_pixels_from_the_threshold_on() -> None:
    images = renders(5)
    scores = Segmenter("tinytown/regions-convnext")(
        np.stack([read_image(one.image) for one in images if one.image])
    )
    areas = (scores >= 0.3).mean((1, 2))
    limit = float(sorted(areas)[2])
    settings = (f"selection.largest_artifact_area={limit}", "selection.detector_threshold=0.3")
    found = region_selector(recipe(CHECKED, *settings))(images)
    assert [(one.stage, one.reason, one.detail) for one in found] == [
        (
            "select",
            "artifacts_already",
            f"the detector sees artifacts on {area:.2%} of the image; at most {limit:.2%}",
        )
        if area > limit
        else ("", "", "")
        for area in areas
    ]


def test_the_detector_is_part_of_the_identity() -> None:
    plain, checked = Identity.of(recipe(RECIPE)), Identity.of(recipe())
    assert set(checked.models) - set(plain.models) == {"detector"}
    assert checked.models["detector"] == fingerprint("tinytown/regions-convnext")
    assert devices_of(recipe()) == {"corruption": "cpu", "regions": "cpu", "detector": "cpu"}
    assert devices_of(recipe(CHECKED, "execution.select.gpus=0.5"))["detector"] == "cuda"
    assert "detector" not in devices_of(recipe(RECIPE))


@pytest.mark.parametrize(
    "change", ["selection.detector_threshold=0.9", "selection.largest_artifact_area=0.1"]
)
def test_its_settings_decide_what_a_data_set_holds(change: str) -> None:
    assert Identity.of(recipe(CHECKED, change)).digest != Identity.of(recipe()).digest


def test_the_plan_says_what_is_left_out() -> None:
    text = CHECKED.replace("size: 64", "size: 64, limit: 1")
    words = {stage.name: stage.what for stage in outlook(recipe(text)).stages}
    assert words["select"] == (
        "at most 25.00% artifacts by tinytown/regions-convnext, then regions from the source's masks"
    )
