"""Images of several sizes and predictions of them, made in this process, without Ray."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from eval.predict.recipe import PredictRecipe
from factory.pipeline.pipeline import Stages
from factory.recipe.parsing import parse

DETECTOR = "tinytown/regions-convnext"
SIZES = {
    "a/one": (64, 64),
    "a/two": (90, 40),
    "b/small": (12, 19),
    "b/three": (64, 64),
    "c/wide": (150, 70),
    "d": (64, 64),
}
"""Width and height by name; the network needs 16 pixels a side."""

RECIPE = f"""
name: mixed
kind: predict
source: {{kind: images, urls: [FOLDER]}}
detector: {{folder: {DETECTOR}, threshold: 0.3, batch_size: 2}}
output: {{samples_per_shard: 3}}
execution: {{load: {{cpus: 0.1}}, predict: {{cpus: 0.3}}, write: {{cpus: 0.1}}}}
"""


def mixed_images(folder: Path) -> dict[str, np.ndarray]:
    """Writes PNGs of `SIZES`, and two files that are no images; the pixels by name."""
    rng = np.random.default_rng(0)
    pixels = {}
    for name, (width, height) in SIZES.items():
        coarse = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        image = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
        pixels[name] = np.asarray(image)
        path = folder / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path)
    (folder / "broken.png").write_bytes((folder / "d.png").read_bytes()[:200])
    Image.new("RGB", (4100, 8)).save(folder / "long.png")
    return pixels


def recipe(folder: Path, *changes: str) -> PredictRecipe:
    return parse(PredictRecipe, RECIPE.replace("FOLDER", str(folder)), "mixed.yaml", changes)


def one_after_the_other(
    stages: Stages, pools: Mapping[Any, Any], arguments: tuple[Any, ...], todo: Sequence[int]
) -> Iterator[int]:
    """The stages in this process. tests/integration/test_predicting.py has them run by Ray."""
    made = [stage(*arguments) for stage in stages.values()]
    for number in todo:
        table = pa.table({"shard": [number]})
        for stage in made:
            table = stage(table)
        yield number


@pytest.fixture(scope="module")
def without_ray() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("factory.pipeline.cluster.connect", lambda address: None)
        patch.setattr("factory.pipeline.cluster.check_resources", lambda pools, patience: {})
        patch.setattr("eval.predict.stages.run_stages", one_after_the_other)
        yield
