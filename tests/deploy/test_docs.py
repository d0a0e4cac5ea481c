"""docs/clusters.md: its commands hold, as far as they can be tried without an account."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import typer.main
import yaml
from ray.scripts.scripts import cli as ray_cli

from factory.recipe.recipe import load_recipe
from flawforge.cli import app

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "clusters.md").read_text()
BLOCKS = re.findall(r"^```\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
LINES = [line for block in BLOCKS for line in block.replace("\\\n", " ").splitlines()]


def words(line: str) -> list[str]:
    """The words of a command, without leading assignments, `export`s and what follows a pipe or `&`."""
    found = shlex.split(line, comments=True)
    while found and re.fullmatch(r"[A-Z_]+=.*", found[0]):
        found = found[1:]
    ends = [place for place, word in enumerate(found) if word in ("&", ">", "|")]
    return found[: min(ends, default=len(found))]


RAY = [words(line)[1:] for line in LINES if words(line)[:1] == ["ray"]]


@pytest.mark.parametrize("command", RAY, ids=" ".join)
def test_ray_commands_have_the_options_that_ray_has(command):
    name, *rest = command
    found = ray_cli.commands[name]
    if name == "job":
        name, *rest = rest
        found = found.commands[name]
    found.make_context(name, rest)


def test_every_kind_of_ray_command_was_seen():
    assert {" ".join(command[:2]) if command[0] == "job" else command[0] for command in RAY} == {
        "get-auth-token",
        "up",
        "dashboard",
        "job submit",
        "down",
    }


@pytest.mark.parametrize("command", [command for command in RAY if command[0] == "job"], ids=" ".join)
def test_submitted_builds_exist_and_join_the_cluster(command):
    entrypoint = command[command.index("--") + 1 :]
    assert entrypoint[:3] == ["python", "-m", "flawforge"]
    name, *rest = entrypoint[3:]
    given = typer.main.get_command(app).commands[name].make_context(name, rest).params
    assert given["address"] == "auto"
    assert load_recipe(given["recipe"], given["set_"]).execution.corrupt.largest == 8


def run_here(line: str, folder: Path) -> None:
    environment = {"PATH": f"{folder}:/usr/bin:/bin"}
    subprocess.run(["bash", "-c", line], cwd=folder, env=environment, check=True, timeout=60)


def test_the_image_of_every_node_is_pinned_by_the_command(tmp_path):
    shutil.copy(ROOT / "cluster.yaml", tmp_path)
    aws = tmp_path / "aws"
    aws.write_text('#!/bin/sh\n[ "$1 $2" = "ssm get-parameter" ] && echo ami-0123456789abcdef0\n')
    aws.chmod(0o755)
    (line,) = [line for line in LINES if "ssm get-parameter" in line]
    region = yaml.safe_load((ROOT / "cluster.yaml").read_text())["provider"]["region"]
    assert f"--region {region}" in line
    run_here(line, tmp_path)
    types = yaml.safe_load((tmp_path / "cluster.yaml").read_text())["available_node_types"]
    assert {node["node_config"]["ImageId"] for node in types.values()} == {"ami-0123456789abcdef0"}


def test_registry_and_bucket_are_put_in_by_the_command(tmp_path):
    shutil.copytree(ROOT / "deploy", tmp_path / "deploy")
    (line,) = [line for line in LINES if "sed -i" in line and "deploy/ray" in line]
    run_here(line, tmp_path)
    for name in ("rayjob.yaml", "rayjob-training.yaml"):
        job = yaml.safe_load((tmp_path / "deploy" / name).read_text())["spec"]
        groups = [job["rayClusterSpec"]["headGroupSpec"], *job["rayClusterSpec"]["workerGroupSpecs"]]
        images = {
            container["image"] for group in groups for container in group["template"]["spec"]["containers"]
        }
        assert images == {"REGISTRY/flawforge:0.1.0"}
        assert "s3://bucket/" not in job["entrypoint"]
        assert "--out s3://MY-BUCKET/" in job["entrypoint"]
        assert f"--tag {images.pop()} " in PAGE


def test_files_and_links_exist():
    for path in re.findall(r"(?:deploy|docs|recipes)/[\w.-]+\.\w+", PAGE):
        assert (ROOT / path).exists(), path
    for link in re.findall(r"\]\((?!http)([^)#]+)\)", PAGE):
        assert (ROOT / "docs" / link).exists(), link


def test_settings_of_the_recipe_exist():
    given = set(re.findall(r"`(execution(?:\.\w+)+)`", PAGE))
    assert {"execution.corrupt.gpus", "execution.passes"} <= given
    execution = load_recipe("sd15").execution
    for path in given:
        value = execution
        for name in path.split(".")[1:]:
            value = getattr(value, name)
