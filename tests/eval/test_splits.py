"""Splits: opened by name, the sealed one by the command only, and never those of another version."""

from __future__ import annotations

import hashlib
import io
import tarfile
from pathlib import Path

import numpy as np
import pytest

from actors.errors import EvaluationError
from actors.images import encode_image, encode_mask
from eval.splits import NAMES, open_split, splits_version
from tinytown import ASSETS_VERSION


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """All splits of one white image each, all of it an artifact where it has a mask."""
    for name in NAMES:
        folder = tmp_path / name
        folder.mkdir()
        (folder / "VERSION.txt").write_text(f"{ASSETS_VERSION}\n")
        image = encode_image(np.full((64, 64, 3), 255, np.uint8))
        members = {f"{name}-00000.image.png": image, f"{name}-00000.json": b'{"caption": "a face"}'}
        if name != "wild":
            members[f"{name}-00000.mask.png"] = encode_mask(np.ones((64, 64), np.bool_))
        with tarfile.open(folder / "000000.tar", "w") as tar:
            for member, data in members.items():
                info = tarfile.TarInfo(member)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    (tmp_path / "manifest.json").write_text("{}")
    return tmp_path


def test_splits_by_name(root: Path):
    for name, share in (("labelled", 1), ("labelled-2000", 1), ("validation", 1), ("wild", 0)):
        split = open_split(name, root=root)
        assert split.keys == [f"{name}-00000"] and split.captions == ["a face"]
        assert split.images.shape == (1, 64, 64, 3) and split.masks.mean() == share


def test_the_sealed_split_has_one_way_in(root: Path):
    with pytest.raises(EvaluationError, match="flawforge eval --split sealed"):
        open_split("sealed", root=root)
    assert open_split("sealed", sealed_allowed=True, root=root).keys == ["sealed-00000"]


def test_no_such_split(root: Path):
    with pytest.raises(
        EvaluationError, match="no split 'test'; there are labelled, labelled-2000, validation, wild, sealed"
    ):
        open_split("test", root=root)


def test_splits_that_are_not_there(tmp_path: Path):
    for attempt in (lambda: open_split("validation", root=tmp_path), lambda: splits_version(tmp_path)):
        with pytest.raises(EvaluationError, match="of tinytown is missing"):
            attempt()


def test_splits_of_another_version(root: Path):
    (root / "validation" / "VERSION.txt").write_text("1\n")
    for attempt in (lambda: open_split("validation", root=root), lambda: splits_version(root)):
        with pytest.raises(EvaluationError, match=rf"is of version 1; .* needs version {ASSETS_VERSION}"):
            attempt()


def test_the_version_pins_the_manifest(root: Path):
    digest = hashlib.sha256(b"{}").hexdigest()[:16]
    assert splits_version(root) == f"tinytown/splits-v{ASSETS_VERSION}@{digest}"
    (root / "manifest.json").unlink()
    with pytest.raises(EvaluationError, match=r"manifest\.json is missing"):
        splits_version(root)
