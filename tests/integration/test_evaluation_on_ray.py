"""An evaluation on a pool of scorers: the report of this process, to the last digit."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from actors.segmentation.segmenter import Segmenter
from eval.labelled import stream_tar
from flawforge.cli import app
from tests.labelled_tars import random_sample, write_tar
from tests.upernet import save_upernet

pytestmark = pytest.mark.usefixtures("ray_here")


@pytest.fixture(scope="module")
def tars(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three tars of 3, 1 and 4 images; a third of them is clean."""
    folder, rng, number = tmp_path_factory.mktemp("tars"), np.random.default_rng(0), 0
    for tar, count in enumerate((3, 1, 4)):
        samples = {}
        for _ in range(count):
            samples[f"s{number}"] = random_sample(rng, clean=number % 3 == 0)
            number += 1
        write_tar(folder / f"{tar:06d}.tar", samples)
    return folder


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_upernet(tmp_path_factory.mktemp("random")))


def test_the_report_of_one_process(
    tars: Path, checkpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The checkpoint is a relative path, which means nothing to a worker."""
    monkeypatch.chdir(Path(checkpoint).parent)
    some = np.stack([sample.image for _, sample in stream_tar(str(tars / "000000.tar"))])
    threshold = float(np.median(Segmenter(checkpoint)(some)))
    here, there = tmp_path / "here", tmp_path / "there"
    arguments = [Path(checkpoint).name, "--data", str(tars), "--threshold", str(threshold)]
    documents = []
    for more in (["--out", str(here)], ["--out", str(there), "--workers", "auto"]):
        result = CliRunner().invoke(app, ["eval", *arguments, *more, "--json"])
        assert result.exit_code == 0, (result.output, result.exception)
        documents.append(json.loads(result.stdout))
    assert documents[0] == documents[1] and documents[0]["checkpoint"] == Path(checkpoint).name
    assert documents[0]["evaluation"]["images"] == 8 and documents[0]["objects"]["broken"] == 5
    assert 0 < documents[0]["evaluation"]["recall"]["value"] < 1
    for name in ("figures.json", "index.html"):
        assert (here / name).read_bytes() == (there / name).read_bytes(), name
    rows = pq.read_table(there / "images.parquet")
    assert rows.to_pylist() == pq.read_table(here / "images.parquet").to_pylist()
    assert rows["key"].to_pylist() == [f"s{number}" for number in range(8)]
