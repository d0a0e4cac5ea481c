"""Scores from maps by key: images without a map are left out, and what the maps state reaches the report."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from actors.errors import EvaluationError
from eval.scoring import CheckpointScores, Scores, ScoresByKey
from flawforge.evaluation import Running, evaluate_source
from tests.labelled_tars import random_sample, write_tar


class Maps:
    """Maps of 0.6 for some keys, and of another shape for one of them."""

    def __init__(self, keys: tuple[str, ...], *, refuses: bool) -> None:
        self.keys, self.missing, self.refuses = keys, 0, refuses

    def scores_for(self, key: str, size: tuple[int, int], where: str) -> Scores | None:
        assert size == (64, 64) and where.endswith(f", {key}")
        self.missing += key not in self.keys
        return np.full(size, 0.6, np.float32) if key in self.keys else None

    def check(self) -> None:
        if self.refuses and self.missing:
            raise EvaluationError(f"{self.missing} images have no map")

    def notes(self) -> list[str]:
        return [f"{self.missing} images are left out"]


@dataclass(frozen=True)
class MapSource:
    keys: tuple[str, ...]
    refuses: bool = False
    name: str = "maps"
    batch_size: int = 2
    any_image: bool = False

    def fingerprint(self) -> str:
        return "maps@1"

    def portable(self) -> MapSource:
        return self

    def open(self) -> ScoresByKey:
        return ScoresByKey(Maps(self.keys, refuses=self.refuses))


@pytest.fixture
def tar(tmp_path: Path) -> str:
    rng = np.random.default_rng(0)
    return write_tar(tmp_path / "a.tar", {f"k{n}": random_sample(rng) for n in range(3)})


def test_a_report_of_maps(tar: str, tmp_path: Path):
    """Its threshold is never chosen, and it stays in this process: no cluster has the address."""
    running = Running(2, "nowhere:1")
    report = evaluate_source(MapSource(("k0", "k2")), urls=[tar], running=running, out=str(tmp_path / "out"))
    assert report.evaluation.images == 2 and report.evaluation.recall.value == 1
    assert (report.checkpoint, report.model, report.threshold_from) == ("maps", "maps@1", "default")
    assert "1 images are left out" in report.notes
    assert (tmp_path / "out" / "index.html").is_file()


def test_missing_maps_are_refused(tar: str):
    with pytest.raises(EvaluationError, match="1 images have no map"):
        evaluate_source(MapSource(("k0", "k2"), refuses=True), urls=[tar])


def test_a_set_of_which_nothing_is_scored(tar: str):
    with pytest.raises(EvaluationError, match="no images to evaluate"):
        evaluate_source(MapSource(()), urls=[tar])


def test_a_checkpoint_for_other_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "detector").mkdir()
    monkeypatch.chdir(tmp_path)
    source = CheckpointScores("detector").portable()
    assert source.checkpoint == str(tmp_path / "detector") and source.name == source.checkpoint
    for name in ("tinytown/regions-convnext", "owner/name"):
        assert CheckpointScores(name).portable() == CheckpointScores(name)
