"""The image: what it copies exists, reaches the builder, and is all that an installation needs."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from pathspec import GitIgnoreSpec

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text()
JOINED = DOCKERFILE.replace("\\\n", " ")


def copied() -> list[str]:
    """Every source of a COPY, without the one that need not exist."""
    lines = re.findall(r"^COPY (.+)$", JOINED, re.MULTILINE)
    return [source for line in lines for source in line.split()[:-1] if "[" not in source]


def ours() -> list[str]:
    """Every file of the checkout that git does not ignore."""
    ignored = GitIgnoreSpec.from_lines([".git", *(ROOT / ".gitignore").read_text().splitlines()])
    found = []
    for folder, folders, files in os.walk(ROOT):
        here = Path(folder).relative_to(ROOT)
        folders[:] = [name for name in folders if not ignored.match_file(f"{(here / name).as_posix()}/")]
        paths = [(here / name).as_posix() for name in files]
        found += [path for path in paths if not ignored.match_file(path)]
    return found


def kept_from_the_builder() -> GitIgnoreSpec:
    """Docker's patterns are rooted, unlike git's; a folder that is let in brings all it holds."""
    patterns = (ROOT / ".dockerignore").read_text().splitlines()
    return GitIgnoreSpec.from_lines(re.sub(r"^(!?)(?!\*\*|[!#])(.+)$", r"\1/\2", line) for line in patterns)


def sent() -> set[str]:
    return {path for path in ours() if not kept_from_the_builder().match_file(path)}


def test_what_is_copied_exists_and_reaches_the_builder():
    files = sent()
    for source in copied():
        assert (ROOT / source).exists(), source
        assert any(path == source or path.startswith(f"{source}/") for path in files), source


def test_nothing_else_reaches_the_builder():
    names = {path.split("/")[0] for path in sent()}
    assert names == set(copied())


def test_every_package_and_recipe_is_in_the_image():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = {name.rstrip("*") for name in project["tool"]["setuptools"]["packages"]["find"]["include"]}
    assert {*wanted, "recipes"} <= set(copied())
    made = re.search(r"RUN mkdir (.+?) *&&", JOINED)
    assert made is not None and set(made[1].split()) == wanted


def test_versions_are_pinned():
    assert re.search(r"^FROM python:3\.11\.\d+-slim-\w+$", DOCKERFILE, re.MULTILINE)
    (install,) = re.findall(r"pip install [^\n]*", JOINED)
    assert "--constraint constraints.txt" in install


def test_a_job_s_upload_leaves_out_what_no_job_needs():
    ignored = GitIgnoreSpec.from_lines((ROOT / ".rayignore").read_text().splitlines())
    uploaded = [path for path in ours() if not ignored.match_file(path)]
    tops = {path.split("/")[0] for path in uploaded}
    assert {"actors", "eval", "factory", "flawforge", "recipes", "tinytown", "train"} <= tops
    assert not tops & {"tests", "docs", "benchmarks", "deploy", "tools", ".ci"}
    assert sum((ROOT / path).stat().st_size for path in uploaded) < 100 * 2**20


@pytest.mark.parametrize(
    "name", ["tests/golden/tiny_sd/unet/config.json", "docs/clusters.md", ".venv/bin/python"]
)
def test_what_is_not_sent(name):
    assert kept_from_the_builder().match_file(name)


def test_dependencies_are_installed_before_the_code_and_the_code_is_found(tmp_path):
    """Runs the installation's own steps, without the dependencies: an editable install of packages still to come."""
    install, *copies = [line for line in JOINED.splitlines() if re.match(r"RUN mkdir|COPY \w+ \w+$", line)]
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    prepare = install.removeprefix("RUN ").split("&& pip install")[0]
    subprocess.run(["sh", "-c", prepare], cwd=tmp_path, check=True)
    packages = tmp_path / "site"
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run(
        [*command, "--ignore-installed", "--prefix", str(packages), "--editable", "."],
        cwd=tmp_path,
        check=True,
    )
    for source in (line.split()[1] for line in copies):
        shutil.copytree(ROOT / source, tmp_path / source, dirs_exist_ok=True)
    (site,) = packages.glob("lib/*/site-packages")
    names = ["actors", "eval", "factory", "flawforge", "tinytown", "train"]
    program = f"import site; site.addsitedir({str(site)!r}); from importlib.util import find_spec; "
    program += f"print(*(find_spec(name).origin for name in {names}))"
    # -S: without the packages of this environment, among which are ours.
    found = subprocess.run([sys.executable, "-S", "-c", program], cwd="/", capture_output=True, text=True)
    # A package without its __init__.py at the installation would have no origin here.
    assert found.stdout.split() == [str(tmp_path / name / "__init__.py") for name in names], found.stderr
