"""The command line as a user meets it: light commands stay light, mistakes are reported, exit codes hold."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from flawforge.commands.printing import say
from tests.commands import ROOT, run
from tests.patience import seconds

HEAVY = ("torch", "ray", "diffusers", "transformers")

_LIGHT = """
import sys
from typer.testing import CliRunner
from flawforge.cli import app
result = CliRunner().invoke(app, sys.argv[1:])
print(result.output)
heavy = [name for name in {heavy} if name in sys.modules]
assert result.exit_code == 0, (result.exit_code, result.exception)
assert not heavy, heavy
"""


@pytest.mark.parametrize("command", [["plan", "quickstart"], ["doctor"], ["--help"]])
def test_light_commands_import_nothing_heavy(command: list[str]):
    code = _LIGHT.format(heavy=HEAVY)
    done = subprocess.run(
        [sys.executable, "-c", code, *command], capture_output=True, text=True, timeout=seconds(120)
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_plan_as_json():
    view = json.loads(run("plan", "quickstart", "--set", "source.limit=100", "--json").stdout)
    assert view["items"] == 100 and view["shards"] == 2
    # 1 + 5 + 2 + 12 x 1 for the inversion to k = 15, 10 for the resampling
    assert view["unet_rows"] == 30


def test_mistakes_in_a_recipe_are_listed_together(tmp_path: Path):
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("name: mine\nsorce: {}\ncorruption: {inversion_steps: 60}\nregions: {kind: source}\n")
    done = run("plan", str(recipe), "--set", "verify.least_inside=high")
    assert done.returncode == 2
    assert "mine.yaml: 3 mistakes" in done.stderr
    assert "corruption.inversion_steps: found 60; allowed: at most inference_steps (50)" in done.stderr
    assert "did you mean 'source'?" in done.stderr
    assert "verify.least_inside: found 'high'" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_missing_output_is_told():
    done = run("status", "/nowhere/at/all")
    assert done.returncode == 1
    assert done.stderr == "flawforge: /nowhere/at/all: plan.parquet is missing\n"


def test_a_wrong_option_is_usage():
    assert run("build", "quickstart", "--out", "x", "--mode", "merge").returncode == 2


def test_doctor_as_json():
    findings = {finding["name"]: finding for finding in json.loads(run("doctor", "--json").stdout)}
    assert findings["Python"]["ok"] and findings["torch"]["ok"]
    assert findings["tinytown weights"]["value"] == "present"


def test_a_key_cannot_steer_the_terminal(capsys: pytest.CaptureFixture[str]):
    say(Console(width=20), "wrong: key '\x1b]0;title\x07[bold]\nall is well' of shard 3")
    assert capsys.readouterr().out == "wrong: key '\\x1b]0;title\\x07[bold]\\nall is well' of shard 3\n"


def test_the_shipped_recipes_are_listed_and_printed():
    listed = run("recipes")
    assert [line.split()[0] for line in listed.stdout.splitlines()] == [
        "quickstart",
        "quickstart-judged",
        "images",
        "sd15",
        "tinytown-negatives",
        "train-regions",
        "train-detector",
        "train-tinytown-regions",
        "train-tinytown-detector",
        "predict-tinytown",
    ]
    assert run("recipes", "images").stdout == (ROOT / "recipes" / "images.yaml").read_text()
    wrong = run("recipes", "image")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert (
        "image: no shipped recipe; allowed: quickstart, quickstart-judged, images, sd15, tinytown-negatives"
        in wrong.stderr
    )
