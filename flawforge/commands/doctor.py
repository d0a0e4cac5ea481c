"""The command `doctor`: what this machine has. It looks torch and ray up without importing them."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import typer
from rich.table import Table

from flawforge.commands.options import JsonOption
from flawforge.commands.printing import cell, console, print_json

PACKAGES = (
    "flawforge",
    "ray",
    "torch",
    "diffusers",
    "transformers",
    "webdataset",
    "pyarrow",
    "pillow",
    "numpy",
)
UNWANTED = ("torchvision", "timm")

app = typer.Typer()


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    Attributes:
        name: what was checked.
        value: what was found.
        ok: whether a build can run with it.
        advice: what to do if it cannot.
    """

    name: str
    value: str
    ok: bool = True
    advice: str = ""


@app.command()
def doctor(as_json: JsonOption = False) -> None:
    """Show what this machine has: Python, packages, GPUs, Ray, models. Exit code 1 when something is missing."""
    findings = examine()
    if as_json:
        print_json([asdict(finding) for finding in findings])
    else:
        table = Table("", "what", "found", "what to do", box=None, show_header=False)
        for finding in findings:
            mark = "[green]ok[/]" if finding.ok else "[red]no[/]"
            table.add_row(mark, finding.name, cell(finding.value), "" if finding.ok else finding.advice)
        console.print(table)
    raise typer.Exit(0 if all(finding.ok for finding in findings) else 1)


def examine() -> list[Finding]:
    """Check Python, packages, processors, GPUs, Ray and model weights, in this order."""
    return [
        _python(),
        *_packages(),
        *_unwanted(),
        _processors(),
        _gpus(),
        _ray(),
        _tinytown(),
        _model_cache(),
    ]


def _python() -> Finding:
    found = ".".join(map(str, sys.version_info[:3]))
    return Finding("Python", found, sys.version_info >= (3, 11), "Python 3.11 or newer is required")


def _packages() -> list[Finding]:
    findings = []
    for name in PACKAGES:
        try:
            findings.append(Finding(name, version(name)))
        except PackageNotFoundError:
            findings.append(Finding(name, "not installed", False, f"pip install {name}"))
    return findings


def _unwanted() -> list[Finding]:
    return [
        Finding(
            name, "installed", False, f"breaks transformers with a CPU build of torch: pip uninstall {name}"
        )
        for name in UNWANTED
        if importlib.util.find_spec(name) and "+cpu" in _version("torch")
    ]


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _processors() -> Finding:
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return Finding("CPUs", str(count))


def _gpus() -> Finding:
    if not shutil.which("nvidia-smi"):
        return Finding("GPUs", "none (nvidia-smi is missing); the embedded world runs without")
    query = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader"]
    try:
        listing = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError) as error:
        return Finding("GPUs", f"nvidia-smi fails: {error}", False, "repair the driver, or run without GPUs")
    return Finding("GPUs", "; ".join(listing.strip().splitlines()) or "none")


def _ray() -> Finding:
    address = os.environ.get("RAY_ADDRESS")
    return Finding("Ray cluster", f"RAY_ADDRESS={address}" if address else "none named; a run starts its own")


def _tinytown() -> Finding:
    from actors.models import TINYTOWN_FOLDER

    present = (TINYTOWN_FOLDER / "unet" / "diffusion_pytorch_model.safetensors").exists()
    return Finding(
        "tinytown weights", "present" if present else "missing", present, "reinstall flawforge completely"
    )


def _model_cache() -> Finding:
    home = Path(os.environ.get("HF_HOME", Path.home() / ".cache" / "huggingface"))
    hub = Path(os.environ.get("HF_HUB_CACHE", home / "hub"))
    models = sorted(folder.name[8:].replace("--", "/") for folder in hub.glob("models--*"))
    return Finding("model cache", f"{hub}: {', '.join(models) or 'no models'}")
