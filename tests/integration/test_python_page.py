"""The examples of docs/python.md, of the README's Python section, and of the API's docstrings run as they stand."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import pytest
from PIL import Image

import flawforge
from tinytown.render import render

pytestmark = pytest.mark.usefixtures("ray_here")

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("workplace")


def examples(page: str) -> str:
    return "\n".join(re.findall(r"^```python\n(.*?)^```$", page, re.DOTALL | re.MULTILINE))
