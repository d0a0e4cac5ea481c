"""Predictions on Ray: the examples of docs/predicting.md, the bytes of one process, a killed run that is resumed."""

from __future__ import annotations

import doctest
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import flawforge
from eval.predict.job import predict
from eval.predict.recipe import load_prediction
from factory.store.storage import Storage
from tests.commands import ROOT
from tests.eval.predict.outputs import one_after_the_other
from tests.integration.conftest import content_of
from tests.integration.test_python_page import run
from tests.patience import seconds

pytestmark = pytest.mark.usefixtures("ray_here")


def test_the_page_and_the_docstring(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    names = run((ROOT / "docs/predicting.md").read_text(), "# Marking artifacts", {})
    assert names["total"].accepted == 8 and len(names["rows"]) == 8
    report = names["report"]
    assert report.notes[0] == "threshold 0.3: as given" and report.evaluation.images == 8
    assert 0 < report.evaluation.iou_fg.value < 1
    assert "8 images marked, 0 rejected" in capsys.readouterr().out
    for example in doctest.DocTestFinder(recurse=False).find(flawforge.predict, "predict", globs={}):
        result = doctest.DocTestRunner().run(example)  # finds the output of the page complete
        assert result.failed == 0 and result.attempted > 0
    # The page's pools of Ray gave the bytes of one process.
    monkeypatch.setattr("eval.predict.stages.run_stages", one_after_the_other)
    changes = ["source.limit=8", "output.samples_per_shard=4"]
    predict(load_prediction("predict-tinytown", changes), str(tmp_path / "alone"))
    alone = content_of(tmp_path / "alone")
    assert alone == content_of(tmp_path / "out/wild") and "shards/000001.tar" in alone


@pytest.mark.slow
def test_a_killed_prediction_goes_on_to_the_same_shards(tmp_path: Path) -> None:
    changes = ["source.limit=64", "output.samples_per_shard=4"]
    out = tmp_path / "killed"
    command = [sys.executable, "-m", "flawforge", "predict", "predict-tinytown", "--out", str(out)]
    command += [word for change in changes for word in ("--set", change)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=ROOT)
    end = time.monotonic() + seconds(120)
    while process.poll() is None and len(list(out.glob("stats/*.json"))) < 2:
        assert time.monotonic() < end
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert 0 < len(list(out.glob("stats/*.json"))) < 16
    storage = Storage(str(out))
    assert storage.exists("lock.json") and not storage.exists("manifest.json")
    assert flawforge.predict("predict-tinytown", out, overrides=changes, take_over=True).complete
    flawforge.predict("predict-tinytown", tmp_path / "whole", overrides=changes)
    assert content_of(out) == content_of(tmp_path / "whole")
    assert flawforge.verify(out).sound
