"""The wheel, installed where the repository is out of sight: it holds all that its commands need."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from factory.recipe.recipe import SHIPPED
from tests.commands import ROOT
from tests.patience import seconds


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, since a `build/` left in the checkout would put stale modules into it."""
    folder = tmp_path_factory.mktemp("wheel")
    left_out = shutil.ignore_patterns(".*", "build", "out", "*.egg-info", "__pycache__", "tests", "docs")
    shutil.copytree(ROOT, folder / "source", symlinks=True, ignore=left_out)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run(
        [*command, "--wheel-dir", str(folder), str(folder / "source")], check=True, timeout=seconds(120)
    )
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`bin` of an environment with the wheel, and with the dependencies of this one by their folders."""
    environment = tmp_path_factory.mktemp("installed") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True)
    python = environment / "bin" / "python"
    command = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps"]
    subprocess.run([*command, "--no-index", str(wheel)], check=True, timeout=seconds(120))
    (site,) = environment.glob("lib/*/site-packages")
    dependencies = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
    (site / "dependencies.pth").write_text("\n".join(dependencies))
    return environment / "bin"


def run(installed: Path, cwd: Path, *command: str, within: float = 120) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(
        [str(installed / command[0]), *command[1:]],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=seconds(within),
    )


def test_the_wheel_holds_the_packages_and_no_other_folder(wheel: Path) -> None:
    tops = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    (metadata,) = (top for top in tops if top.endswith(".dist-info"))
    assert tops - {metadata} == {"actors", "eval", "factory", "flawforge", "tinytown", "train"}


def test_the_shipped_recipes_come_with_the_wheel(installed: Path, tmp_path: Path) -> None:
    where = run(installed, tmp_path, "python", "-c", "import factory; print(factory.__file__)")
    assert where.stdout.startswith(str(installed.parent)), where.stdout + where.stderr
    for name in SHIPPED:
        printed = run(installed, tmp_path, "flawforge", "recipes", name)
        assert printed.stdout == (ROOT / "recipes" / f"{name}.yaml").read_text(), printed.stderr
    planned = run(installed, tmp_path, "flawforge", "plan", "quickstart", "--set", "source.limit=64")
    assert planned.stdout.startswith("quickstart: 64 items in 1 shards of 64"), planned.stderr


@pytest.mark.slow
def test_the_quickstart_runs_from_the_wheel(installed: Path, tmp_path: Path) -> None:
    made = run(installed, tmp_path, "flawforge", "quickstart", "--items", "64", "--steps", "20", within=900)
    assert made.returncode == 0, made.stdout + made.stderr
    assert "= 64 planned; every item and every shard accounted for" in made.stdout
    assert (tmp_path / "out" / "quickstart" / "gallery.html").is_file()
    assert (tmp_path / "out" / "quickstart-detector" / "model.safetensors").is_file()
    verified = run(installed, tmp_path, "flawforge", "verify", "out/quickstart")
    assert (verified.returncode, "1 of 1 shards; 0 problems" in verified.stdout) == (0, True), verified.stdout
