"""Scores from maps: the figures of the same scores in arrays, and what is missing is counted."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

import flawforge
from actors.errors import ArgumentError, EvaluationError
from actors.images import encode_image, encode_mask
from eval.evaluate import evaluate
from tests.eval.predictions.test_score_map import npy
from tests.eval.test_labelled import write

RNG = np.random.default_rng(0)
TRUTH = RNG.random((5, 6, 7)) < 0.4
SCORES = (RNG.random((5, 6, 7)) * 0.6 + 0.4 * TRUTH).astype(np.float32)


def truth(path: Path, numbers: range = range(5)) -> str:
    image = encode_image(np.zeros((6, 7, 3), np.uint8))
    return write(
        path / "truth.tar",
        *(
            (f"k{n}.{name}", data)
            for n in numbers
            for name, data in (("image.png", image), ("mask.png", encode_mask(TRUTH[n])))
        ),
    )


def test_the_figures_of_the_same_scores_in_arrays(tmp_path: Path) -> None:
    maps = write(tmp_path / "maps.tar", *((f"k{n}.npy", npy(SCORES[n])) for n in (3, 0, 4, 1, 2)))
    found = flawforge.evaluate(predictions=maps, data=truth(tmp_path), threshold=0.3)
    wanted, ours = asdict(evaluate(TRUTH, SCORES, 0.3)), asdict(found.evaluation)
    # Streamed average precision is that of scores rounded to 1024 levels, as the other is.
    assert ours.keys() == wanted.keys()
    for name, value in wanted.items():
        assert ours[name] == pytest.approx(value, abs=1e-12), name
    assert found.notes[0] == "threshold 0.3: as given" and found.model.startswith("maps@")
    again = flawforge.evaluate(predictions=[maps], data=truth(tmp_path), out=tmp_path / "report")
    assert {"index.html", "figures.json", "images.parquet"} <= {
        one.name for one in (tmp_path / "report").iterdir()
    }
    assert again.model == found.model and again.evaluation.threshold == 0.5


def test_missing_and_unused_maps(tmp_path: Path) -> None:
    maps = write(tmp_path / "maps.tar", *((f"k{n}.npy", npy(SCORES[n])) for n in (3, 0, 4)))
    data = truth(tmp_path, range(4))
    with pytest.raises(EvaluationError, match=r"2 images have no map: .*truth\.tar, k1; .*, k2; maps .*: k4"):
        flawforge.evaluate(predictions=maps, data=data)
    zero = flawforge.evaluate(predictions=maps, data=data, missing="zero")
    scores = SCORES[:4].copy()
    scores[1:3] = 0
    assert zero.evaluation.iou_fg == evaluate(TRUTH[:4], scores, 0.5).iou_fg
    notes = " ".join(zero.notes)
    assert "2 images have no map and are scored 0 everywhere" in notes
    assert "1 of 3 maps belong to none of the images; maps without an image: k4" in notes
    skip = flawforge.evaluate(predictions=maps, data=data, missing="skip").evaluation
    kept = evaluate(TRUTH[[0, 3]], SCORES[[0, 3]], 0.5)
    assert skip.images == 2 and skip.iou_fg.value == kept.iou_fg.value


def test_no_image_has_a_map(tmp_path: Path) -> None:
    maps = write(tmp_path / "maps.tar", ("other.npy", npy(SCORES[0])))
    with pytest.raises(EvaluationError, match="none of the 5 images has a map"):
        flawforge.evaluate(predictions=maps, data=truth(tmp_path), missing="skip")


def test_one_source_of_scores(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="give a checkpoint or predictions, one of the two"):
        flawforge.evaluate(data=truth(tmp_path))
    with pytest.raises(ArgumentError, match="give a checkpoint or predictions, one of the two"):
        flawforge.evaluate("tinytown/regions-swin", predictions="maps.tar", data=truth(tmp_path))
    with pytest.raises(ArgumentError, match="maps are compared in this process"):
        flawforge.evaluate(predictions="maps.tar", data=truth(tmp_path), workers=2)
