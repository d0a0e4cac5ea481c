"""Damaged model and segmenter folders, the same on every run: each loads with the weights stored, or is refused."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.model_folders import LFS_POINTER

Mutation = Callable[[Path, random.Random], str]
"""Damages a folder and says how."""

VALUES: list[Any] = [
    None,
    True,
    -1,
    0,
    3,
    1.5,
    1e308,
    float("nan"),
    10**12,
    "",
    "32",
    [],
    [0],
    {},
    {"a": 1},
    [["x"]],
]
GARBAGE = [
    LFS_POINTER,
    b"",
    b"\0" * 64,
    b"\x89PNG\r\n\x1a\n",
    b"{",
    b"[" * 5000,
    b"null",
    b"\xef\xbb\xbf{}",
    b"{}",
]


def mutate(folder: Path, number: int) -> str:
    """Damages a folder in one place, or sometimes in two; the number decides how. Returns what was done."""
    rng = random.Random(f"model {number}")
    count = 2 if number % 7 == 0 else 1
    return " and ".join(rng.choice(MUTATIONS)(folder, rng) for _ in range(count))


def stored(folder: Path, part: str) -> dict[str, Tensor]:
    """The tensors in the safetensors files of a part; empty where they cannot be read."""
    found: dict[str, Tensor] = {}
    try:
        for path in sorted((folder / part).glob("*.safetensors")):
            found |= load_file(path)
    except (SafetensorError, OSError):
        return {}
    return found


def _files(folder: Path, *suffixes: str) -> list[Path]:
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix in suffixes and path.is_file() and path.name != "model_index.json"
    )


def _any(folder: Path, rng: random.Random) -> Path:
    return rng.choice(_files(folder, ".json", ".safetensors"))


def _cut(folder: Path, rng: random.Random) -> str:
    path = _any(folder, rng)
    content = path.read_bytes()
    length = rng.choice([rng.randrange(max(1, len(content))), rng.randrange(64), max(0, len(content) - 1)])
    path.write_bytes(content[:length])
    return f"{path.name} cut to {length} bytes"


def _grown(folder: Path, rng: random.Random) -> str:
    path = _any(folder, rng)
    with path.open("ab") as file:
        file.write(rng.randbytes(rng.choice([1, 8, 1000])))
    return f"{path.name} with bytes behind its end"


def _flipped(folder: Path, rng: random.Random) -> str:
    path = _any(folder, rng)
    content = bytearray(path.read_bytes())
    if content:
        place = rng.randrange(min(len(content), 2000))
        content[place] ^= 1 << rng.randrange(8)
        path.write_bytes(content)
    return f"a bit of {path.name} flipped"


def _garbage(folder: Path, rng: random.Random) -> str:
    path, content = _any(folder, rng), rng.choice(GARBAGE)
    path.write_bytes(content)
    return f"{content[:12]!r} as {path.name}"


def _swapped(folder: Path, rng: random.Random) -> str:
    suffix = rng.choice([".json", ".safetensors"])
    files = _files(folder, suffix)
    one, other = rng.choice(files), rng.choice(files)
    first, second = one.read_bytes(), other.read_bytes()
    one.write_bytes(second)
    other.write_bytes(first)
    return f"{one.relative_to(folder)} and {other.relative_to(folder)} swapped"


def _removed(folder: Path, rng: random.Random) -> str:
    path = _any(folder, rng)
    path.unlink()
    return f"{path.name} removed"


def _not_a_file(folder: Path, rng: random.Random) -> str:
    path = _any(folder, rng)
    path.unlink()
    kind = rng.choice(["folder", "pipe", "loop", "broken link", "device"])
    {
        "folder": path.mkdir,
        "pipe": lambda: os.mkfifo(path),
        "loop": lambda: path.symlink_to(path.name),
        "broken link": lambda: path.symlink_to("nowhere"),
        "device": lambda: path.symlink_to("/dev/zero"),
    }[kind]()
    return f"a {kind} as {path.name}"


def _part_removed(folder: Path, rng: random.Random) -> str:
    path = _any(folder, rng).parent
    if path != folder:
        shutil.rmtree(path)
    return f"{path.name}/ removed"


def _json(folder: Path, rng: random.Random) -> str:
    """One value of a JSON file, at any depth, becomes another, or goes."""
    path = rng.choice(_files(folder, ".json"))
    try:
        document = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return "nothing"
    places: list[tuple[Any, Any]] = []

    def walk(node: Any, depth: int) -> None:
        entries = (
            node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
        )
        for key, value in list(entries)[:60]:
            places.append((node, key))
            if depth < 4:
                walk(value, depth + 1)

    walk(document, 0)
    if not places:
        return "nothing"
    node, key = rng.choice(places)
    if rng.random() < 0.2:
        del node[key]
        what = "gone"
    else:
        node[key] = rng.choice(VALUES)
        what = repr(node[key])
    path.write_text(json.dumps(document))
    return f"{path.relative_to(folder)}: {key} {what}"


def _tensors(change: Callable[[dict[str, Tensor], str, random.Random], None]) -> Mutation:
    def mutation(folder: Path, rng: random.Random) -> str:
        files = _files(folder, ".safetensors")
        if not files:
            return "nothing"
        path = rng.choice(files)
        try:
            weights = load_file(path)
        except SafetensorError:
            return "nothing"
        if not weights:
            return "nothing"
        name = rng.choice(sorted(weights))
        change(weights, name, rng)
        save_file(
            {key: value.contiguous() for key, value in weights.items()}, path, metadata={"format": "pt"}
        )
        return f"{path.relative_to(folder)}: {change.__name__} of {name}"

    return mutation


def _poison(weights: dict[str, Tensor], name: str, rng: random.Random) -> None:
    if weights[name].is_floating_point():
        changed = weights[name].clone()
        changed.view(-1)[rng.randrange(changed.numel())] = rng.choice(
            [float("nan"), float("inf"), -float("inf")]
        )
        weights[name] = changed


def _dtype(weights: dict[str, Tensor], name: str, rng: random.Random) -> None:
    kinds = [
        torch.int8,
        torch.int64,
        torch.bool,
        torch.float8_e4m3fn,
        torch.float64,
        torch.bfloat16,
        torch.complex64,
    ]
    weights[name] = weights[name].to(rng.choice(kinds))


def _rename(weights: dict[str, Tensor], name: str, rng: random.Random) -> None:
    new = rng.choice(
        [f"module.{name}", name.upper(), f"{name}.weight", name[:-1], f"ema.{name}", "lora_A.weight"]
    )
    weights[new] = weights.pop(name)


def _drop(weights: dict[str, Tensor], name: str, rng: random.Random) -> None:
    del weights[name]


def _add(weights: dict[str, Tensor], name: str, rng: random.Random) -> None:
    weights[rng.choice(["extra", f"{name}.alpha", "position_ids"])] = torch.zeros(3)


def _reshape(weights: dict[str, Tensor], name: str, rng: random.Random) -> None:
    value = weights[name]
    weights[name] = rng.choice(
        [
            value.flatten(),
            value[None],
            value[:0] if value.ndim else value,
            value.mT if value.ndim > 1 else value[None],
        ]
    )


def _exchange(weights: dict[str, Tensor], name: str, rng: random.Random) -> None:
    other = rng.choice(sorted(weights))
    weights[name], weights[other] = weights[other].clone(), weights[name].clone()


def _prefix(weights: dict[str, Tensor], name: str, rng: random.Random) -> None:
    prefix = rng.choice(["_orig_mod.", "module.", "model.", ""])
    for key in list(weights):
        weights[prefix + key] = weights.pop(key)


MUTATIONS: list[Mutation] = [
    _cut,
    _grown,
    _flipped,
    _garbage,
    _swapped,
    _removed,
    _not_a_file,
    _part_removed,
    *[_json] * 6,
    *map(_tensors, (_poison, _dtype, _rename, _drop, _add, _reshape, _exchange, _prefix)),
]
