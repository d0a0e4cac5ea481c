"""W&B and MLflow in an environment of their own, which adds them to the packages of this one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.commands import ROOT
from tests.patience import seconds

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
PACKAGES = ("wandb==0.31.0", "mlflow-skinny==3.17.2")


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    place = tmp_path_factory.mktemp("trackers")
    subprocess.run([sys.executable, "-m", "venv", str(place)], check=True, timeout=seconds(120))
    (folder,) = place.glob("lib/python*/site-packages")
    here = [path for path in sys.path if path.endswith("site-packages")]
    (folder / "outside.pth").write_text("\n".join([str(ROOT), *here]))
    program = place / "bin" / "python"
    # Ours may point to folders where the packages of this environment are.
    outside = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [str(program), "-m", "pip", "install", "--quiet", *PACKAGES]
    subprocess.run(command, check=True, env=outside, timeout=seconds(900))
    yield program


def test_their_runs(python: Path) -> None:
    """All tests of tests/train/trackers/test_packages.py, none of them skipped."""
    file = "tests/train/trackers/test_packages.py"
    command = [str(python), "-m", "pytest", "-p", "no:cacheprovider", "-rs", file]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=seconds(600))
    assert done.returncode == 0 and "SKIPPED" not in done.stdout, done.stdout + done.stderr


def test_a_training_on_ray(python: Path, tmp_path: Path) -> None:
    """Relative places are those of the command, though Ray's workers have a folder of their own."""
    changes = [
        "iterations=4",
        "optimizer.warm_up=1",
        "validation.every=2",
        "execution.trackers=[wandb,mlflow]",
    ]
    options = [part for change in changes for part in ("--set", change)]
    command = [str(python), "-m", "flawforge", "train", "train-tinytown-detector", "--out", "out"]
    settings = {"WANDB_MODE": "offline", "MLFLOW_TRACKING_URI": "mlruns", "MLFLOW_ALLOW_FILE_STORE": "true"}
    done = subprocess.run(
        [*command, "--data", "tinytown/labelled", *options],
        cwd=tmp_path,
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        timeout=seconds(600),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    log = [json.loads(line) for line in (tmp_path / "out/log.jsonl").read_text().splitlines()]
    (file,) = tmp_path.glob("mlruns/*/*/metrics/train/loss")
    points = [line.split() for line in file.read_text().splitlines()]  # time, value, step
    assert {int(point[2]): float(point[1]) for point in points} == {
        line["step"]: line["loss"] for line in log
    }
    meta = (file.parents[2] / "meta.yaml").read_text()
    assert "status: 3\n" in meta  # FINISHED
    (tag,) = tmp_path.glob("mlruns/*/*/tags/flawforge.training")
    (run,) = tmp_path.glob(f"wandb/offline-run-*-{tag.read_text()}/*.wandb")
    assert run.stat().st_size > 1000
    assert json.loads((tmp_path / "out/progress.json").read_text())["trouble"] == ""
