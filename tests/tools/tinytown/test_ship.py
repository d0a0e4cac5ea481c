"""What is shipped is whole, of one version, small enough, and says nothing of the machine that made it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from actors.errors import OutputError
from tinytown import ASSETS_VERSION
from tools.tinytown.ship import GROUPS, ship


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A work folder in which everything is finished, 1,000 bytes of weights a folder."""
    work = tmp_path / "work"
    for group in GROUPS.values():
        for name in group:
            (work / name / "inner").mkdir(parents=True)
            (work / name / "model.safetensors").write_bytes(bytes(1000))
            config = {"_name_or_path": str(work / name), "layers": 2}
            (work / name / "inner" / "config.json").write_text(json.dumps(config))
    return work


def everything(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def test_all_folders_arrive_with_version_and_without_paths(out: Path, tmp_path: Path):
    package = tmp_path / "package"
    total = ship(out, package)
    places = {"sd", "segmenter-convnext", "segmenter-swin", "regions-convnext", "regions-swin"}
    assert {path.name for path in (package / "weights").iterdir()} == places
    assert {path.name for path in package.iterdir()} == {"weights", "splits"}
    found = everything(package)
    assert total == sum(map(len, found.values()))
    assert found["weights/sd/VERSION.txt"] == found["splits/VERSION.txt"] == f"{ASSETS_VERSION}\n".encode()
    assert json.loads(found["weights/regions-swin/inner/config.json"]) == {"layers": 2}
    assert not any(str(tmp_path).encode() in content for content in found.values())
    assert "_name_or_path" in (out / "sd-1" / "inner" / "config.json").read_text(), (
        "the source stays as it is"
    )


def test_a_new_folder_replaces_the_old_one_whole(out: Path, tmp_path: Path):
    package = tmp_path / "package"
    (package / "weights" / "sd").mkdir(parents=True)
    (package / "weights" / "sd" / "old.safetensors").write_bytes(b"old")
    (package / "weights" / ".sd.new").mkdir()  # left by a kill
    (package / "weights" / ".sd.new" / "half").write_bytes(b"half")
    ship(out, package, ["sd"])
    names = {"model.safetensors", "inner/config.json", "VERSION.txt"}
    assert set(everything(package)) == {f"weights/sd/{name}" for name in names}


def test_only_what_is_asked_for_is_touched(out: Path, tmp_path: Path):
    package = tmp_path / "package"
    ship(out, package, ["splits"])
    assert {path.name for path in package.iterdir()} == {"splits"}


def test_too_much_is_refused_before_anything_is_copied(out: Path, tmp_path: Path):
    package = tmp_path / "package"
    (package / "weights" / "sd").mkdir(parents=True)
    (package / "weights" / "sd" / "model.safetensors").write_bytes(bytes(5000))
    before = everything(package)
    with pytest.raises(OutputError, match="at most 5,500"):
        ship(out, package, ["splits"], largest=5500)  # 5,000 are there, and more than 1,000 come
    assert everything(package) == before
    ship(out, package, ["sd"], largest=1500)  # the 5,000 go


def test_a_missing_folder_and_another_version_are_refused(out: Path, tmp_path: Path):
    package = tmp_path / "package"
    (out / "splits" / "wild").mkdir()
    (out / "splits" / "wild" / "VERSION.txt").write_text("1\n")
    with pytest.raises(OutputError, match=r"wild.VERSION.txt is not of version"):
        ship(out, package)
    with pytest.raises(OutputError, match="nowhere"):
        ship(out / "nowhere", package)
    assert not package.exists()
