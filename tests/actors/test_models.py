"""Names of the weights that come with Flawforge."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from actors import models
from actors.errors import ModelError
from actors.models import fingerprint, is_hub_id, locate
from actors.segmentation.segmenter import Segmenter
from tests.upernet import save_upernet

ROOT = Path(__file__).parents[2]
NAMES = ["regions-convnext", "regions-swin", "segmenter-convnext", "segmenter-swin"]


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of weights in the place of `tinytown/regions-swin`."""
    folder = save_upernet(tmp_path / "regions-swin")
    monkeypatch.setitem(models.SHIPPED, "tinytown/regions-swin", folder)
    return folder


def test_where_the_shipped_weights_are():
    weights = ROOT / "tinytown" / "weights"
    wanted = {"tinytown": weights / "sd"} | {f"tinytown/{name}": weights / name for name in NAMES}
    assert wanted == models.SHIPPED
    assert locate("tinytown") == str(ROOT / "tinytown" / "weights" / "sd")


def test_a_shipped_name_is_no_hub_id(shipped: Path):
    assert locate("tinytown/regions-swin") == str(shipped)
    assert not is_hub_id("tinytown/regions-swin") and not is_hub_id("tinytown/regions-convnext")
    assert is_hub_id("openmmlab/upernet-swin-tiny") and is_hub_id("tinytowns/regions-swin")


def test_a_shipped_name_hides_a_folder_of_that_name(
    shipped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "tinytown" / "regions-swin").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert locate("tinytown/regions-swin") == str(shipped)


def test_a_folder_under_tinytown_is_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "tinytown" / "mine").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert locate("tinytown/mine") == "tinytown/mine"


def test_an_unknown_shipped_name_lists_those_there_are():
    with pytest.raises(ModelError, match=f"'tinytown/regions'; there are .*{'.*'.join(NAMES)}"):
        locate("tinytown/regions")


def test_missing_weights_name_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(models.SHIPPED, "tinytown/regions-swin", tmp_path / "nowhere")
    for ask in (locate, fingerprint):
        with pytest.raises(ModelError, match=r"tinytown/regions-swin are not at .*nowhere.*`make assets`"):
            ask("tinytown/regions-swin")


def test_shipped_weights_have_no_revisions(shipped: Path):
    for name in ("tinytown", "tinytown/regions-swin"):
        with pytest.raises(ModelError, match="comes with Flawforge and has no revisions"):
            locate(name, "main")


def test_the_fingerprint_of_shipped_weights_tells_name_version_and_digest(
    shipped: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(models, "ASSETS_VERSION", 7)
    before = fingerprint("tinytown/regions-swin")
    assert re.fullmatch(r"tinytown/regions-swin-v7@[0-9a-f]{16}", before)
    assert before.split("@")[1] == fingerprint(str(shipped)).split("@")[1]
    assert re.fullmatch(r"tinytown-v7@[0-9a-f]{16}", fingerprint("tinytown"))
    (shipped / "config.json").write_text("{}")
    assert fingerprint("tinytown/regions-swin") != before


def test_a_segmenter_is_loaded_by_its_shipped_name(shipped: Path):
    assert Segmenter("tinytown/regions-swin").net.config.num_labels == 2
