"""Rules of the house that no linter holds."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCES = sorted(
    path
    for folder in ("actors", "eval", "factory", "flawforge", "tinytown", "train", "benchmarks", "tools")
    for path in (ROOT / folder).rglob("*.py")
)


def test_no_pickle_and_no_remote_code():
    forbidden = re.compile(
        r"\bimport pickle\b|pickle\.loads?\(|trust_remote_code\s*=\s*True|weights_only\s*=\s*False"
    )
    assert [path for path in SOURCES if forbidden.search(path.read_text())] == []


def test_no_file_holds_two_concepts():
    assert [path for path in SOURCES if len(path.read_text().splitlines()) > 400] == []


def test_nothing_brings_torchvision_or_timm():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = project["dependencies"] + [
        one for extra in project["optional-dependencies"].values() for one in extra
    ]
    pinned = (ROOT / "constraints.txt").read_text().splitlines()
    assert not [line for line in wanted + pinned if re.match(r"(torchvision|timm)\b", line)]


def test_weights_are_safetensors_within_their_budget():
    files = [path for path in (ROOT / "tinytown" / "weights").rglob("*") if path.is_file()]
    assert {path.suffix for path in files} <= {".safetensors", ".json", ".txt"}
    assert (
        sum(path.stat().st_size for path in (ROOT / "tinytown/weights/sd").rglob("*") if path.is_file())
        < 15e6
    )
