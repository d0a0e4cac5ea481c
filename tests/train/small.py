"""Small trainings without Ray: a few labelled images in a tar, tiny networks, and the loop in this process."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from actors.images import encode_image, encode_mask
from factory.store.storage import Storage
from tests.train.data.data_sets import write_tar
from train.data.catalogue import DataSet, open_data_set
from train.data.labels import Label
from train.distributed import Workers
from train.hooks import Hooks, Report
from train.loop import Loop
from train.recipe import TrainingRecipe
from train.segmentation import LabelledImage, Segmentation
from train.segmentation_loss import SegmentationBatch

SECTIONS = ("model", "augmentation", "optimizer", "loss", "execution")

SmallLoop = Loop[LabelledImage, SegmentationBatch]


class Stop(Exception):
    """Ends a training from outside."""


def drawn(count: int, side: int = 32, *, seed: int = 0) -> list[tuple[NDArray[np.uint8], NDArray[np.bool_]]]:
    """Noise with a bright square, which is the artifact."""
    rng = np.random.default_rng(seed)
    pairs = []
    for _ in range(count):
        image = rng.integers(0, 120, (side, side, 3), dtype=np.uint8)
        mask = np.zeros((side, side), np.bool_)
        top, left = rng.integers(0, side // 2, 2)
        mask[top : top + side // 2, left : left + side // 2] = True
        image[mask] += 120
        pairs.append((image, mask))
    return pairs


def tar_of(
    path: Path, pairs: Sequence[tuple[NDArray[np.uint8], NDArray[np.bool_]]], *more: tuple[str, bytes]
) -> Path:
    """A tar of images and masks under the names `s00`, `s01` and so on, and of further members."""
    members = []
    for number, (image, mask) in enumerate(pairs):
        members += [
            (f"s{number:02d}.png", encode_image(image)),
            (f"s{number:02d}.mask.png", encode_mask(mask)),
        ]
    return write_tar(path, *members, *more)


def recipe_of(checkpoint: Path | str, **changes: Any) -> TrainingRecipe:
    """20 steps of 8 images in float64, nothing random but the order; sections are merged with the changes."""
    iterations = changes.get("iterations", 20)
    document: dict[str, Any] = {
        "name": "small",
        "kind": "detector",
        "iterations": iterations,
        "batch": 8,
        "data": [{"name": "small"}],
        "model": {"checkpoint": str(checkpoint), "batch_norm": "frozen", "drop_path": 0.0},
        "optimizer": {"learning_rate": 1e-3, "warm_up": 3 if iterations > 3 else 0},
        "precision": "float64",
        "execution": {"save_every": 7},
    }
    for name, value in changes.items():
        document[name] = {**document.get(name, {}), **value} if name in SECTIONS else value
    return TrainingRecipe.model_validate(document)


def data_of(tar: Path, label: Label = "mask") -> DataSet:
    return open_data_set("small", str(tar), label=label, cache=None)


def loop_of(
    recipe: TrainingRecipe,
    tar: Path,
    out: Path,
    *,
    validation: Path | None = None,
    workers: Workers | None = None,
    hooks: Hooks | None = None,
    digest: str = "d" * 64,
) -> SmallLoop:
    task = Segmentation(recipe, [data_of(tar)], data_of(validation) if validation else None)
    return Loop(
        task,
        recipe,
        digest=digest,
        storage=Storage(str(out)),
        workers=workers or Workers(),
        hooks=hooks,
    )


def lines_of(out: Path, kind: str = "log") -> list[dict[str, Any]]:
    """The lines of the log, or of the samples, that the latest checkpoint has."""
    state = json.loads(max((out / "checkpoints").glob("*.json")).read_bytes())
    return [json.loads(line) for path in state[kind] for line in (out / path).read_text().splitlines()]


def losses_of(out: Path) -> list[float]:
    return [line["loss"] for line in lines_of(out)]


def stop_after(step: int) -> Hooks:
    def report(found: Report) -> None:
        if found.step == step:
            raise Stop

    return Hooks(report=report)


def weights_of(out: Path, step: int, kind: str = "model") -> dict[str, torch.Tensor]:
    return load_file(out / f"checkpoints/{step:06d}.{kind}.safetensors")


def edited(net: Path, folder: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> Path:
    shutil.copytree(net, folder)
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    return folder
