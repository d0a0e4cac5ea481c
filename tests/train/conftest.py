"""A tiny network and ten labelled images for trainings in this process; modules that need others define their own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.train.small import drawn, tar_of
from tests.upernet import save_upernet


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_upernet(tmp_path_factory.mktemp("net"))


@pytest.fixture(scope="module")
def tar(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tar_of(tmp_path_factory.mktemp("data") / "small.tar", drawn(10))
