"""Predictions over images of several sizes: the scores of an evaluation, every image accounted for, resumed alike."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

import flawforge
from actors.errors import ModelError, OutputError
from actors.images import read_image, read_mask
from actors.segmentation.predictor import Predictor
from actors.segmentation.segmenter import Segmenter
from eval.predict.job import predict
from eval.predict.recipe import dump
from eval.predict.samples import MAP
from factory.maintain.merge import merge
from factory.output.rebuild import rebuild
from factory.output.shards.tar import samples
from factory.run.status import look
from factory.run.tally import Tally
from factory.store.storage import Storage
from tests.commands import run
from tests.eval.predict.outputs import DETECTOR, SIZES, mixed_images, recipe, without_ray
from tests.integration.conftest import content_of

__all__ = ["without_ray"]
pytestmark = pytest.mark.usefixtures("without_ray")

BAD = {"broken": "damaged", "long": "too_large"}


class Stop(Exception):
    pass


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("images")
    mixed_images(place)
    return place


@pytest.fixture(scope="module")
def whole(folder: Path, tmp_path_factory: pytest.TempPathFactory, without_ray: None) -> Path:
    out = tmp_path_factory.mktemp("whole") / "out"
    total = predict(recipe(folder), str(out))
    assert (total.planned, total.accepted, total.rejected) == (8, 6, 2) and total.complete
    return out


def rows(out: Path) -> dict[str, dict[str, object]]:
    """The rows of the index by the names of the images."""
    tables = (pq.read_table(path) for path in sorted(out.glob("index/*.parquet")))
    return {row["item"]: row for table in tables for row in table.to_pylist()}


def files(out: Path) -> dict[str, dict[str, bytes]]:
    """The files of every sample by the names of the images."""
    found = {}
    for tar in sorted(out.glob("shards/*.tar")):
        with tar.open("rb") as stream:
            for _, parts in samples(stream):
                found[json.loads(parts["json"])["item"]] = parts
    return found


def levels(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image)


@pytest.mark.parametrize("tile", [None, 64])
def test_maps_are_the_scores_of_an_evaluation(
    folder: Path, whole: Path, tmp_path: Path, tile: int | None
) -> None:
    """For images of all sizes, smaller than the network needs and larger than a tile too."""
    out = whole
    if tile:
        out = tmp_path / "out"
        predict(recipe(folder, f"detector.tile={tile}"), str(out))
    pixels = {name.rpartition("/")[2]: image for name, image in mixed_images(tmp_path / "again").items()}
    scores = Predictor(Segmenter(DETECTOR, batch_size=8), tile=tile, batch_size=8, smallest=16)
    found, index = files(out), rows(out)
    assert found.keys() == pixels.keys()
    for name, image in pixels.items():
        parts, wanted = found[name], scores(image[None])[0].astype(np.float64)
        assert list(parts) == ["image.png", "map.png", "mask.png", "json"]
        assert np.array_equal(read_image(parts["image.png"]), image)
        # Half a level, and the last bits of floats of another batch shape.
        assert np.abs(levels(parts[MAP]) / 65535 - wanted).max() < 0.5 / 65535 + 1e-5
        mask = read_mask(parts["mask.png"])
        assert np.array_equal(mask[np.abs(wanted - 0.3) > 1e-5], (wanted >= 0.3)[np.abs(wanted - 0.3) > 1e-5])
        row, about = index[name], json.loads(parts["json"])
        assert row["score"] == pytest.approx(wanted.mean(), abs=1e-5)
        assert row["largest_score"] == pytest.approx(wanted.max(), abs=1e-5)
        assert row["marked_area"] == mask.mean()
        assert (row["width"], row["height"]) == mask.shape[::-1]
        shared = ("key", "source", "caption", "score", "largest_score", "marked_area", "regions", "width")
        assert {name: about[name] for name in shared} == {name: row[name] for name in shared}
        assert about["threshold"] == 0.3 and about["detector"].startswith(f"{DETECTOR}-v")


def test_every_image_is_accounted_for(whole: Path) -> None:
    index = rows(whole)
    assert index.keys() == {*(name.rpartition("/")[2] for name in SIZES), *BAD}
    assert {name: row["reason"] for name, row in index.items() if row["status"] == "rejected"} == BAD
    assert "4100 x 8 pixels; at most 4096 x 4096" in str(index["long"]["detail"])
    assert flawforge.verify(whole).sound
    sight = look(Storage(str(whole)))
    assert (sight.state, sight.total.rejected) == ("complete", 2)
    manifest = json.loads((whole / "manifest.json").read_text())
    assert manifest["complete"] and manifest["totals"]["reasons"] == {"damaged": 1, "too_large": 1}
    card = (whole / "README.md").read_text()
    assert "6 images in 3 of 3" in card and "threshold 0.3" in card and "damaged 1" in card


def test_a_stopped_prediction_goes_on_to_the_same_shards(folder: Path, whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"

    def stop(tally: Tally) -> None:
        if tally.figures().made_shards == 1:
            raise Stop

    changes = ("execution.predict.largest=2", "limits.rejects=0.5")
    with pytest.raises(Stop):
        predict(recipe(folder), str(out), show=stop, order=lambda todo: sorted(todo, reverse=True))
    assert [path.name for path in out.glob("stats/*")] == ["000002.json"]
    assert predict(recipe(folder, *changes), str(out)).complete
    assert content_of(out) == content_of(whole)
    assert predict(recipe(folder, *changes), str(out)).complete
    assert "rejects: 0.5" in (out / "recipe.yaml").read_text()


def test_another_threshold_or_detector_is_refused(folder: Path, whole: Path) -> None:
    before = content_of(whole)
    for change, words in (
        ("detector.threshold=0.4", r"predict\.detector\.threshold: 0\.3 -> 0\.4"),
        ("detector.folder=tinytown/regions-swin", r"models\.detector: .*convnext.* -> .*swin"),
    ):
        with pytest.raises(OutputError, match=words) as error:
            predict(recipe(folder, change), str(whole))
        assert "predict into a new folder, or with --mode overwrite" in str(error.value)
    assert content_of(whole) == before


def test_images_left_out_and_an_output_overwritten(folder: Path, whole: Path, tmp_path: Path) -> None:
    out = shutil.copytree(whole, tmp_path / "out")
    predict(recipe(folder, "output.image=leave_out"), str(out), overwrite=True)
    found, kept = files(out), files(whole)
    assert all(list(parts) == ["map.png", "mask.png", "json"] for parts in found.values())
    assert all(found[name][MAP] == kept[name][MAP] for name in kept)
    assert flawforge.verify(out).sound


def test_the_threshold_that_came_with_a_detector(folder: Path, tmp_path: Path) -> None:
    from actors.models import SHIPPED

    model = shutil.copytree(SHIPPED[DETECTOR], tmp_path / "model")
    changes = (f"detector.folder={model}", "detector.threshold=null", "source.limit=1")
    with pytest.raises(ModelError, match=r"no threshold of its own.*set detector\.threshold"):
        predict(recipe(folder, *changes), str(tmp_path / "out"))
    (model / "metrics.json").write_text('{"threshold": 0.62}')
    predict(recipe(folder, *changes), str(tmp_path / "out"))
    (parts,) = files(tmp_path / "out").values()
    assert json.loads(parts["json"])["threshold"] == 0.62


def test_the_verifier_finds_what_was_changed(whole: Path, tmp_path: Path) -> None:
    out = shutil.copytree(whole, tmp_path / "out")
    tar = out / "shards/000000.tar"
    data = bytearray(tar.read_bytes())
    data[600] ^= 1
    tar.write_bytes(data)
    (out / "stats/000002.json").unlink()
    found = " | ".join(map(str, flawforge.verify(out).problems))
    assert "shards/000000.tar" in found and "000002: not made yet" in found


def test_commands_for_builds_refuse_a_prediction(whole: Path, tmp_path: Path) -> None:
    storage = Storage(str(whole))
    with pytest.raises(OutputError, match="made by flawforge predict; run the same command again"):
        rebuild(storage)
    copy = shutil.copytree(whole, tmp_path / "copy")
    with pytest.raises(OutputError, match="made by flawforge import or predict, and merge takes outputs of"):
        merge(str(tmp_path / "merged"), [str(whole), str(copy)])
    assert not (tmp_path / "merged").exists()
    key = str(next(iter(rows(whole).values()))["key"])
    for arguments in (
        ("inspect", str(whole), key),
        ("replay", str(whole), key),
        ("retry-rejects", str(whole)),
    ):
        done = run(*arguments)
        assert "Traceback" not in done.stderr, arguments


def test_the_command(folder: Path, whole: Path, tmp_path: Path) -> None:
    text = dump(recipe(folder))
    (tmp_path / "mine.yaml").write_text(text)
    out = str(tmp_path / "out")
    done = run("predict", str(tmp_path / "mine.yaml"), "--out", out, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["reasons"] == {"damaged": 1, "too_large": 1}
    assert content_of(tmp_path / "out") == content_of(whole)
    assert run("gallery", out, "--tiles", "3").returncode == run("verify", out).returncode == 0
    assert run("status", out).stdout.startswith("complete: 3 of 3 shards, 8 items planned")
    strict = run("predict", str(tmp_path / "mine.yaml"), "--out", out, "--set", "limits.rejects=0.1")
    assert strict.returncode == 3 and "rejected 25.0% of the images" in strict.stdout
    assert run("predict", "quickstart", "--out", out).returncode == 2
