"""Changes to model folders: to their JSON files, their weights, and what lies beside them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

LFS_POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"4d7a2146" * 8 + b"\nsize 12345\n"

Weights = dict[str, Tensor]


def edit(path: Path, **changes: Any) -> None:
    """Sets fields of a JSON file."""
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def drop(path: Path, name: str) -> None:
    """Removes a field of a JSON file."""
    path.write_text(
        json.dumps({key: value for key, value in json.loads(path.read_text()).items() if key != name})
    )


def weights_of(folder: Path) -> Path:
    """The one safetensors file of a folder."""
    (path,) = folder.glob("*.safetensors")
    return path


def change(path: Path, change: Callable[[Weights], Weights]) -> None:
    """Rewrites a safetensors file."""
    changed = {name: value.contiguous() for name, value in change(load_file(path)).items()}
    save_file(changed, path, metadata={"format": "pt"})


def shard(path: Path) -> tuple[Path, Path]:
    """Splits a safetensors file into two with an index, as save_pretrained does for large ones."""
    weights = load_file(path)
    names = sorted(weights)
    halves = names[: len(names) // 2], names[len(names) // 2 :]
    places, files = {}, []
    for number, half in enumerate(halves, 1):
        file = path.with_name(f"{path.stem}-{number:05d}-of-00002.safetensors")
        save_file({name: weights[name] for name in half}, file, metadata={"format": "pt"})
        places |= dict.fromkeys(half, file.name)
        files.append(file)
    path.unlink()
    index = {"metadata": {"total_size": 0}, "weight_map": places}
    path.with_name(f"{path.name}.index.json").write_text(json.dumps(index))
    return files[0], files[1]


def poisoned(weights: Weights, name: str, value: float) -> Weights:
    """One number of one tensor replaced."""
    changed = weights[name].clone()
    changed.view(-1)[0] = value
    return {**weights, name: changed}


def random_like(weights: Weights) -> Weights:
    """Other weights of the same shapes."""
    generator = torch.Generator().manual_seed(1)
    return {
        name: torch.randn(value.shape, generator=generator) if value.is_floating_point() else value
        for name, value in weights.items()
    }
