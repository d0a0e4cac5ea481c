"""Rows of images: from the counts at all thresholds to the measures at one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from actors.masks import Mask
from eval import image_rows
from eval.image_rows import ROWS, RowSpool, counted_row, rows_file
from eval.labelled import LabelledSample
from eval.showcase import Showcase
from eval.streaming import StreamedEvaluation

THRESHOLDS = (0.3, 0.6)


def row(number: int, truth: int, hits: int, extra: int, *, pixels: int = 100) -> dict[str, object]:
    """An image of ten by ten pixels: first the truth, then the false positives, all marked with 0.5."""
    inside, scores = np.zeros(100, np.bool_), np.zeros(100, np.float32)
    inside[:truth] = True
    scores[:hits] = scores[truth : truth + extra] = 0.5
    ignored = np.zeros(100, np.bool_)
    ignored[pixels:] = True
    mask = Mask(inside.reshape(10, 10), ignored.reshape(10, 10))
    image = np.zeros((10, 10, 3), np.uint8)
    where = "https://user:secret@host/a.tar, k"
    sample = LabelledSample(where, f"k{number}", "caption", image, mask, artifact_score=0.25)
    counted = StreamedEvaluation(THRESHOLDS).add(number, mask, scores.reshape(10, 10), where="")
    return counted_row(number, sample, counted)


def test_measures_at_each_threshold(tmp_path: Path):
    for place, hits, extra in ((0, 10, 20), (1, 0, 0)):
        with RowSpool() as spool:
            spool.add([row(3, 40, 10, 20, pixels=80), row(4, 0, 0, 0)])
            rows_file(spool.finished(place), tmp_path / "images.parquet")
        table = pq.read_table(tmp_path / "images.parquet")
        assert table.schema == ROWS
        first, second = table.to_pylist()
        assert (first["true_positives"], first["false_positives"]) == (hits, extra)
        assert first["false_negatives"] == 40 - hits and first["pixels"] == 80
        assert first["marked_area"] == pytest.approx((hits + extra) / 80) and first["truth_area"] == 0.5
        assert first["iou"] == pytest.approx(hits / (40 + extra))
        assert first["score"] == pytest.approx(0.5 * 30 / 80) and first["artifact_score"] == 0.25
        assert (second["iou"], second["precision"], second["recall"]) == (1, 1, 1)
        assert "secret" not in first["where"]


def test_many_rows_in_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(image_rows, "_GROUP", 4)
    with RowSpool() as spool:
        for number in range(10):
            spool.add([row(number, 20, number, 0)])
        tables = list(spool.finished(0))
    assert [len(table) for table in tables] == [4, 4, 2]
    assert [one for table in tables for one in table["true_positives"].to_pylist()] == list(range(10))


def test_what_a_report_shows():
    """Two at a time, of rows that arrive in two tables."""
    rows = [
        row(0, 0, 0, 5),
        row(1, 0, 0, 9),
        row(2, 0, 0, 0),
        row(3, 1, 0, 0),
        row(4, 8, 4, 1),
        row(5, 30, 0, 3),
        row(6, 15, 15, 0),
    ]
    showcase = Showcase(most=2)
    for part in (rows[:3], rows[3:]):
        with RowSpool() as spool:
            spool.add(part)
            for table in spool.finished(0):
                showcase.add(table)
    shown = {
        name: [one["number"] for one in showcase.rows(name)]
        for name in ("clean", "wrong", "missed", "worst", "best")
    }
    assert shown == {"clean": [1, 0], "wrong": [5, 4], "missed": [5, 4], "worst": [5, 3], "best": [6, 4]}
    groups = [
        (group.images, group.hits, group.extra, group.missed, group.found_nothing) for group in showcase.sizes
    ]
    assert groups == [(1, 0, 0, 1, 1), (0, 0, 0, 0, 0), (1, 4, 1, 4, 0), (1, 15, 0, 0, 0), (1, 0, 3, 30, 1)]
