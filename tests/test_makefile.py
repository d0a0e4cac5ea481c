"""How `make quickstart` and `make test` install: by pip as the machine has it set up, or by uv."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from importlib.metadata import distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from uv import find_uv_bin

from tests.commands import ROOT
from tests.package_index import Index, serve, wheel
from tests.patience import seconds

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CONSTRAINTS = dict(re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE))
PINNED = {canonicalize_name(name): version for name, version in CONSTRAINTS.items()}
PRODUCT = {canonicalize_name(Requirement(line).name) for line in PROJECT["dependencies"]}
DEV = {canonicalize_name(Requirement(line).name) for line in PROJECT["optional-dependencies"]["dev"]}
LATER = "9999.0"
EXTRAS = [f"Provides-Extra: {name}" for name in ("data", "default", "s3", "train")]
NVIDIA = Path("/sys/module/nvidia").exists() or shutil.which("nvidia-smi") is not None

BACKEND = """
import shutil

def build_editable(wheel_directory, config_settings=None, metadata_directory=None):
    return shutil.copy("flawforge-0.1.0-py3-none-any.whl", wheel_directory).rpartition("/")[2]
"""


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Index]:
    """Every package in the version of constraints.txt, and in one that is later."""
    names = PRODUCT | DEV
    packages = {name: {PINNED.get(name, "1.0"): EXTRAS} for name in names}
    packages |= {name: {**packages[name], LATER: EXTRAS} for name in names & set(PINNED)}
    with serve(packages, PINNED["torch"], tmp_path_factory.mktemp("index")) as running:
        yield running


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Makefile, constraints and dependencies of the project, without its code, and built without setuptools."""
    for name in ("Makefile", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    text = (ROOT / "pyproject.toml").read_text()
    backend = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n\n'
    (tmp_path / "pyproject.toml").write_text(backend + text[text.index("[project]") :])
    (tmp_path / "backend.py").write_text(BACKEND)
    for name in ("README.md", "LICENSE"):
        (tmp_path / name).touch()
    lines = [f"Requires-Dist: {line}" for line in PROJECT["dependencies"]]
    for extra, wanted in PROJECT["optional-dependencies"].items():
        lines += [
            f"Provides-Extra: {extra}",
            *(f'Requires-Dist: {line}; extra == "{extra}"' for line in wanted),
        ]
    files = {
        "@/entry_points.txt": "[console_scripts]\nflawforge = flawforge_stub:main\n",
        "flawforge_stub.py": "import sys\ndef main(): print('ran', *sys.argv[1:])\n",
    }
    (tmp_path / "flawforge-0.1.0-py3-none-any.whl").write_bytes(wheel("flawforge", "0.1.0", lines, files))
    return tmp_path


def make(
    checkout: Path, index: Index, *arguments: str, settings: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run make with the index as uv's and pip's only one, whatever this machine has set up."""
    foreign = (
        "PIP_",
        "UV",
        "MAKE",
        "MFLAGS",
        "HTTP",
        "http",
        "ALL_PROXY",
        "all_proxy",
        "NO_PROXY",
        "no_proxy",
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    environment |= {
        "PATH": f"{Path(find_uv_bin()).parent}:{environment['PATH']}",
        "HTTPS_PROXY": index.proxy,
        "SSL_CERT_FILE": str(index.certificate),
        "UV_CACHE_DIR": str(checkout / "uv-cache"),
        "UV_DEFAULT_INDEX": index.url,
        "UV_HTTP_RETRIES": "0",
        "UV_NO_CONFIG": "1",
        "UV_PYTHON_DOWNLOADS": "never",
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_INDEX_URL": index.url,
        "PIP_NO_CACHE_DIR": "1",
    }
    index.requests.clear()
    return subprocess.run(
        ["make", f"PYTHON={sys.executable}", *arguments],
        cwd=checkout,
        env=environment | (settings or {}),
        capture_output=True,
        text=True,
        timeout=seconds(120),
    )


def installed(checkout: Path) -> dict[str, str]:
    (site,) = checkout.glob(".venv/lib/*/site-packages")
    return {canonicalize_name(one.name): one.version for one in distributions(path=[str(site)])}


def asked_of_pytorch(index: Index) -> set[str]:
    return {path for path in index.requests if not path.startswith("/simple/")}


def pinned(names: set[str]) -> dict[str, str]:
    return {name: PINNED[name] for name in names & set(PINNED)}


@pytest.mark.skipif(NVIDIA, reason="this machine has a driver of NVIDIA's")
def test_uv_installs_torch_without_cuda_where_there_is_no_gpu(checkout: Path, index: Index) -> None:
    made = make(checkout, index, "quickstart", "UV=1")
    assert made.returncode == 0, made.stderr
    assert made.stdout.endswith("ran quickstart\n")
    cpu = f"{PINNED['torch']}+cpu"
    assert installed(checkout) == pinned(PRODUCT) | {"flawforge": "0.1.0", "torch": cpu}
    assert asked_of_pytorch(index) == {"/whl/cpu/torch/", f"/whl/cpu/torch/torch-{cpu}-py3-none-any.whl"}

    # The environment has no pip; what `make test` adds is installed by uv without being told so.
    further = make(checkout, index, ".venv/.dev")
    assert further.returncode == 0, further.stderr
    found = installed(checkout)
    assert found["torch"] == cpu and found.items() >= (pinned(PRODUCT | DEV) | {"torch": cpu}).items()
    assert set(found) == PRODUCT | DEV | {"flawforge"}


def test_uv_installs_the_build_of_torch_that_the_driver_can_run(checkout: Path, index: Index) -> None:
    # A driver 550 runs every CUDA 12, which asks for 525; CUDA 13 asks for 580.
    made = make(checkout, index, ".venv/.product", "UV=1", settings={"UV_CUDA_DRIVER_VERSION": "550.54.14"})
    assert made.returncode == 0, made.stderr
    assert installed(checkout)["torch"].startswith(f"{PINNED['torch']}+cu12")


def test_uv_takes_torch_from_the_configured_index_on_request(checkout: Path, index: Index) -> None:
    made = make(checkout, index, ".venv/.product", "UV=1", "TORCH_BACKEND=")
    assert made.returncode == 0, made.stderr
    assert installed(checkout) == pinned(PRODUCT) | {"flawforge": "0.1.0"}
    assert not asked_of_pytorch(index)


def test_uv_says_what_to_set_where_pytorch_s_index_is_out_of_reach(checkout: Path, index: Index) -> None:
    made = make(checkout, index, ".venv/.product", "UV=1", settings={"HTTPS_PROXY": "http://127.0.0.1:9"})
    assert made.returncode != 0 and not (checkout / ".venv" / ".product").exists()
    assert "https://download.pytorch.org/whl/" in made.stderr
    assert "add TORCH_BACKEND= to take torch from that index" in made.stderr


def test_without_uv_on_the_path_uv_1_says_so(checkout: Path, index: Index) -> None:
    tools = checkout / "tools"
    tools.mkdir()
    for name in ("sh", "grep", "make"):
        (tools / name).symlink_to(shutil.which(name) or name)
    made = make(checkout, index, ".venv/.product", "UV=1", settings={"PATH": str(tools)})
    assert made.returncode != 0 and not (checkout / ".venv").exists()
    assert "UV=1 needs uv" in made.stderr


def test_the_default_is_pip_with_the_machine_s_own_configuration(checkout: Path, index: Index) -> None:
    made = make(checkout, index, "quickstart", ".venv/.dev")
    assert made.returncode == 0, made.stderr
    assert "ran quickstart\n" in made.stdout
    found = installed(checkout)
    assert found.items() >= pinned(PRODUCT | DEV).items()
    assert set(found) - {"pip", "setuptools"} == PRODUCT | DEV | {"flawforge"}
    assert not asked_of_pytorch(index)
