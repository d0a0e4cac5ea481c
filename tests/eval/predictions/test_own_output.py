"""Outputs of `flawforge predict` are predictions too: their maps go by the names of the images in their source."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import flawforge
from actors.errors import EvaluationError, OutputError
from actors.images import encode_image, encode_mask
from eval.predict.job import predict
from eval.predictions.predictions import Predictions
from tests.eval.predict.outputs import DETECTOR, mixed_images, recipe, without_ray
from tests.eval.test_labelled import write

__all__ = ["without_ray"]
pytestmark = pytest.mark.usefixtures("without_ray")

CHANGES = (
    "source.kind=webdataset",
    "source.fields.image=[image.png]",
    "detector.threshold=0.3",
    "output.samples_per_shard=2",
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A labelled set of images of several sizes."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(1)
    members = []
    for name, image in mixed_images(folder / "images").items():
        mask = encode_mask(np.kron(rng.random((2, 2)) < 0.5, np.ones(image.shape[:2]))[::2, ::2] > 0)
        members += [(f"{name}.image.png", encode_image(image)), (f"{name}.mask.png", mask)]
    return write(folder / "truth.tar", *members)


@pytest.fixture(scope="module")
def out(data: str, tmp_path_factory: pytest.TempPathFactory, without_ray: None) -> Path:
    place = tmp_path_factory.mktemp("out") / "out"
    assert predict(recipe(Path(data), *CHANGES), str(place)).accepted == 6
    return place


def test_the_figures_of_an_evaluation_of_the_same_detector(data: str, out: Path) -> None:
    found = flawforge.evaluate(predictions=out, data=data, out=out.parent / "report")
    assert "that of the predictions" in (out.parent / "report/index.html").read_text()
    wanted = flawforge.evaluate(DETECTOR, data=data, threshold=0.3).evaluation
    ours = found.evaluation
    for name in ("iou_fg", "precision", "recall", "iou_per_image"):
        assert getattr(ours, name).value == pytest.approx(getattr(wanted, name).value, abs=1e-3), name
    assert ours.average_precision == pytest.approx(wanted.average_precision, abs=1e-3)
    assert found.notes[0] == "threshold 0.3: that of the predictions; --threshold sets another"


def test_its_tars_alone_go_by_the_keys_of_the_plan(out: Path) -> None:
    assert Predictions([str(out)]).maps == 6
    assert set(Predictions([str(out)]).unused_keys()) == {
        "a/one",
        "a/two",
        "b/small",
        "b/three",
        "c/wide",
        "d",
    }
    tars = Predictions([f"{out}/shards/*.tar"])
    assert tars.maps == 6 and not {"a/one", "d"} & set(tars.unused_keys())


def test_an_unfinished_or_damaged_prediction(out: Path, tmp_path: Path) -> None:
    import shutil

    copy = shutil.copytree(out, tmp_path / "copy")
    (copy / "stats/000001.json").unlink()
    with pytest.raises(EvaluationError, match="2 of 3 shards are done; run the same flawforge predict again"):
        Predictions([str(copy)])
    copy = shutil.copytree(out, tmp_path / "other")
    (copy / "index/000001.parquet").write_bytes(b"PAR1")
    with pytest.raises(OutputError, match=r"index/000001\.parquet is damaged"):
        Predictions([str(copy)])
