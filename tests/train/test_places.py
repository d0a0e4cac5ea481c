"""Names of shipped data sets, and paths that hold on every worker."""

from __future__ import annotations

from pathlib import Path

import pytest

from actors.errors import TrainingError
from tests.train.small import recipe_of
from train.places import absolute, place_of


@pytest.mark.parametrize("name", ["labelled", "labelled-2000", "validation"])
def test_shipped_splits(name: str) -> None:
    folder = Path(place_of(f"tinytown/{name}"))
    assert folder.is_absolute() and folder.name == name and folder.is_dir()


@pytest.mark.parametrize(
    "name", ["sealed", "wild", "nothing", "segmenter-convnext", "labelled/../sealed", ""]
)
def test_nothing_is_trained_on_the_others(name: str) -> None:
    with pytest.raises(
        TrainingError,
        match=r"may be trained or chosen on it; allowed: tinytown/labelled, tinytown/labelled-2000, tinytown/v",
    ):
        place_of(f"tinytown/{name}")


def test_other_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert place_of("out/x") == str(tmp_path / "out/x") and place_of("/data/x.tar") == "/data/x.tar"
    assert place_of("~/x") == str(Path.home() / "x")
    for url in ("s3://bucket/x", "https://host/x.tar?a=b", "file:///x"):
        assert place_of(url) == url


def test_checkpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net").mkdir()
    (tmp_path / "tinytown/segmenter-convnext").mkdir(parents=True)
    for given, expected in (
        ("net", str(tmp_path / "net")),
        (str(tmp_path / "net"), str(tmp_path / "net")),
        ("openmmlab/upernet-convnext-tiny", "openmmlab/upernet-convnext-tiny"),
        ("tinytown/segmenter-convnext", "tinytown/segmenter-convnext"),
    ):
        assert absolute(recipe_of(given)).model.checkpoint == expected
