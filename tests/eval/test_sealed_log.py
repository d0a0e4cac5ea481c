"""The log of sealed openings: two lines each, counted, never written over, and required."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from actors.errors import OutputError
from eval.sealed_log import default_log, is_sealed, open_sealed, openings


def test_an_opening_has_two_lines(tmp_path: Path):
    log = tmp_path / "new" / "log.jsonl"
    first = open_sealed(log, data="sealed v3", about={"checkpoint": "a@1"})
    assert [line["event"] for line in openings(log)] == ["opened"]
    first.add_figures({"iou_fg": [0.4, 0.3, 0.5]})
    opened, figures = map(json.loads, log.read_text().splitlines())
    assert opened["data"] == "sealed v3" and opened["checkpoint"] == "a@1" and opened["date"].endswith("Z")
    assert figures["iou_fg"] == [0.4, 0.3, 0.5]
    assert [figures[name] for name in ("opening", "data", "checkpoint")] == [
        opened["opening"],
        "sealed v3",
        "a@1",
    ]


def test_openings_of_the_same_data_are_counted(tmp_path: Path):
    log = tmp_path / "log.jsonl"
    numbers = [open_sealed(log, data=data, about={}).number for data in ("a", "b", "a", "a")]
    assert numbers == [1, 1, 2, 3]


def test_a_line_that_was_cut_off_does_not_swallow_the_next(tmp_path: Path):
    log = tmp_path / "log.jsonl"
    log.write_text('{"event": "opened", "data": "a"}\n{"event": "ope')
    assert open_sealed(log, data="a", about={}).number == 2
    assert len(openings(log)) == 2 and log.read_text().startswith(
        '{"event": "opened", "data": "a"}\n{"event": "ope\n'
    )


def test_a_log_that_cannot_be_written(tmp_path: Path):
    (tmp_path / "file").write_text("")
    for log in (tmp_path / "file" / "log.jsonl", tmp_path):
        with pytest.raises(OutputError, match="the sealed images stay closed; make it writable"):
            open_sealed(log, data="a", about={})


def test_the_file_of_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert default_log() == tmp_path / "flawforge" / "sealed-openings.jsonl"
    monkeypatch.setenv("HOME", str(tmp_path))
    for unset in ("", "relative"):
        monkeypatch.setenv("XDG_STATE_HOME", unset)
        assert default_log() == tmp_path / ".local" / "state" / "flawforge" / "sealed-openings.jsonl"


def test_which_tars_are_sealed():
    assert is_sealed(["a/000000.tar", "s3://bucket/mine/sealed/000000.tar"])
    assert not is_sealed(["sealed.tar", "sealed/more/0.tar", "a/sealed.tar", "unsealed/0.tar"])
