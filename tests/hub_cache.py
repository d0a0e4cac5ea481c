"""A model cache in the layout of huggingface_hub: refs/BRANCH names a commit, snapshots/COMMIT holds the files."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from huggingface_hub import constants


def add_snapshot(cache: Path, model: str, commit: str, folder: Path, *, branch: str = "main") -> Path:
    """Copies a model's folder into a cache, as `branch` at `commit`, and returns the snapshot."""
    repository = cache / f"models--{model.replace('/', '--')}"
    snapshot = repository / "snapshots" / commit
    shutil.copytree(folder, snapshot)
    (repository / "refs").mkdir(exist_ok=True)
    (repository / "refs" / branch).write_text(commit)
    return snapshot


def use_cache(patch: pytest.MonkeyPatch, cache: Path) -> None:
    """Makes this process look for models there."""
    patch.setenv("HF_HUB_CACHE", str(cache))
    patch.setattr(constants, "HF_HUB_CACHE", str(cache))
