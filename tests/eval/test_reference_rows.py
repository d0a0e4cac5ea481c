"""Reference rows: what is read, what is refused, and the share of the room."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from actors.errors import EvaluationError
from eval.blind import BlindFigures
from eval.metrics import Interval
from eval.reference_rows import gains, reference_rows

ROW = {
    "iou_fg": [0.2, 0.1, 0.3],
    "average_precision": 0.25,
    "object_auroc_within": 0.5,
    "object_auroc_clean": None,
    "clean_area": 0,
}


def write(root: Path, document: object) -> Path:
    (root / "reference.json").write_text(json.dumps(document))
    return root


def test_rows_of_a_split(tmp_path: Path):
    assert reference_rows("validation", tmp_path) == {}
    root = write(tmp_path, {"validation": {"blind: class prior": ROW}})
    found = reference_rows("validation", root)["blind: class prior"]
    assert found.iou_fg == [0.2, 0.1, 0.3] and found.object_auroc_clean is None and found.clean_area == 0
    assert reference_rows("sealed", root) == {}


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"iou_fg": [0.2, 0.1]}, r"validation\.x\.iou_fg"),
        ({"iou_fg": 0.2}, r"validation\.x\.iou_fg"),
        ({"average_precision": "0.2"}, r"validation\.x\.average_precision"),
        ({"average_precision": float("nan")}, r"validation\.x\.average_precision"),
        ({"clean_area": 1.5}, r"validation\.x\.clean_area"),
        ({"more": 1}, r"validation\.x\.more"),
    ],
)
def test_damaged_rows_are_named(tmp_path: Path, change: dict[str, object], field: str):
    root = write(tmp_path, {"validation": {"x": ROW | change}})
    with pytest.raises(EvaluationError, match=rf"reference\.json is damaged: {field}"):
        reference_rows("validation", root)


def test_a_damaged_file(tmp_path: Path):
    (tmp_path / "reference.json").write_text('{"validation": ')
    with pytest.raises(EvaluationError, match=r"reference\.json is damaged: the file: Invalid JSON"):
        reference_rows("validation", tmp_path)


def test_the_share_of_the_room(tmp_path: Path):
    """Between the better of two baselines, one of them computed here, and the better of two upper bounds."""
    rows = {
        "blind: class prior": ROW,
        "blind: all objects": ROW | {"iou_fg": [0.9, 0.9, 0.9]},  # overruled by what is computed
        "upper bound, swin": ROW | {"iou_fg": [0.6, 0.5, 0.7], "average_precision": 0.8},
        "upper bound, convnext": ROW | {"iou_fg": [0.7, 0.6, 0.8], "average_precision": 0.75},
    }
    found = reference_rows("validation", write(tmp_path, {"validation": rows}))
    computed = Interval(0.3, 0.2, 0.4)
    blind = {"blind: all objects": BlindFigures(computed, Interval(0.3, 0.3, 0.3), None)}
    gain = gains({"iou_fg": 0.4, "average_precision": 0.2}, blind, found)
    iou, precision = gain["iou_fg"], gain["average_precision"]
    assert iou.share == pytest.approx(0.25)
    assert (iou.blind, iou.upper) == ("blind: all objects", "upper bound, convnext")
    assert precision.share == pytest.approx(-0.2) and precision.upper == "upper bound, swin"


def test_no_room_no_gain(tmp_path: Path):
    rows = {"blind: a": ROW, "upper bound": ROW}
    found = reference_rows("validation", write(tmp_path, {"validation": rows}))
    assert gains({"iou_fg": 0.4, "average_precision": 0.2}, {}, found) == {}
    assert gains({"iou_fg": 0.4, "average_precision": 0.2}, {}, {}) == {}
