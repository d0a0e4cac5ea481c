"""What Ray Train and the streaming of shards cost: `python -m benchmarks.training`.

Four trainings of the same recipe in one run: a bare PyTorch loop on decoded arrays that are in memory, in one process;
our loop in this process, which reads, decodes and augments from shards; the same in one worker of Ray Train; and in
two. Printed are images per second of the steps themselves, their share of the bare loop's, the wait for data, and apart
from them the start-up, from the call to the first step. The first three take turns (`--rounds`), so that a machine
whose speed changes does not decide between them. What Ray costs is the difference between a step in its worker and one
in this process.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from statistics import median

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from factory.store.storage import Storage
from train.augmentation import augment
from train.curves import Curves
from train.data.catalogue import open_data_set
from train.data.reading import Reader
from train.data.samples import decode
from train.distributed import Workers
from train.hooks import Hooks
from train.identity import TrainingIdentity, begin
from train.loop import Loop
from train.places import place_of
from train.recipe import TrainingRecipe, dump, load_training, with_data
from train.segmentation import Segmentation, normalised
from train.segmentation_loss import SegmentationBatch, SegmentationLoss
from train.segmenter import starting_point

SKIPPED = 10
"""First steps, which are slower."""

BARE, HERE = "bare loop, arrays in memory", "our loop without Ray, from shards"
ONE, TWO = "Ray Train, 1 worker, from shards", "Ray Train, 2 workers, from shards"


def bare(recipe: TrainingRecipe) -> list[float]:
    """Seconds of every step of a plain loop over decoded images in memory."""
    (data,) = recipe.data
    found = open_data_set(data.name, place_of(str(data.url)), label=data.label, cache=None)
    reader = Reader(found)
    samples = [
        decode(reader.read(shard, row), data.label)
        for shard, count in enumerate(found.counts)
        for row in range(count)
    ]
    net, normalisation, _ = starting_point(recipe.model, seed=recipe.seed)
    module = SegmentationLoss(net.to(memory_format=torch.channels_last), recipe.loss).train()
    optimizer = torch.optim.AdamW(module.parameters(), lr=recipe.optimizer.learning_rate)
    rng, seconds = np.random.default_rng(0), []
    for step in range(recipe.iterations):
        began = time.perf_counter()
        rows = rng.integers(0, len(samples), recipe.batch)
        pairs = [
            augment(samples[row].image, samples[row].label, recipe.augmentation, seed=0, step=step, slot=slot)
            for slot, row in enumerate(rows)
        ]
        pixels = normalised(normalisation, np.stack([image for image, _ in pairs]))
        labels = torch.from_numpy(np.stack([label for _, label in pairs])).long()
        loss = module(SegmentationBatch(pixels, labels)) / labels.numel()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        loss.item()
        seconds.append(time.perf_counter() - began)
    return seconds


def here(recipe: TrainingRecipe, out: Path) -> list[dict[str, float]]:
    """The log of the same training in this process, without Ray, curves and all."""
    storage = Storage(str(out))
    data = [
        open_data_set(one.name, place_of(str(one.url)), label=one.label, cache=storage) for one in recipe.data
    ]
    identity = TrainingIdentity.of(recipe, data, None)
    begin(storage, identity, data)
    with Curves(storage, 0) as curves:
        hooks = Hooks(report=curves.add)
        task = Segmentation(recipe, data, None, cache=storage)
        Loop(task, recipe, digest=identity.digest, storage=storage, workers=Workers(), hooks=hooks).run()
    (log,) = out.glob("log/*.jsonl")
    return [json.loads(line) for line in log.read_text().splitlines()]


def on_ray(
    recipe: TrainingRecipe, file: Path, out: Path, workers: int
) -> tuple[list[dict[str, float]], float]:
    """The log of a training with Ray Train, and seconds from the start of the command to its first step."""
    command = [
        sys.executable,
        "-m",
        "flawforge",
        "train",
        str(file),
        "--out",
        str(out),
        "--workers",
        str(workers),
    ]
    began = time.time()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    events = next((out / "tensorboard").glob("events.*"))
    # TensorBoard's file is named for the second in which the worker was ready to train.
    return lines, float(events.name.split(".")[3]) - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="tinytown/labelled", help="an output of flawforge build, or tars")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=2, help="of the first three trainings")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--checkpoint", default="tinytown/segmenter-convnext")
    parser.add_argument("--set", action="append", default=[], help="change the recipe: a.b=value")
    given = parser.parse_args()
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    torch.set_num_threads(1)
    changes = [
        f"iterations={given.steps}",
        f"batch={given.batch}",
        f"model.checkpoint={given.checkpoint}",
        f"execution.save_every={given.steps}",
        "validation=null",
        "model.batch_norm=frozen",
        "optimizer.warm_up=1",
        *given.set,
    ]
    recipe = with_data(load_training("train-tinytown-detector", changes), [given.data])
    rows: dict[str, list[dict[str, float]]] = defaultdict(list)
    starts: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "recipe.yaml"
        file.write_text(dump(recipe))
        for number in range(given.rounds):
            rows[BARE] += [{"seconds": one, "waited": 0.0} for one in bare(recipe)[SKIPPED:]]
            rows[HERE] += here(recipe, Path(folder) / f"here-{number}")[SKIPPED:]
            lines, starts[ONE] = on_ray(recipe, file, Path(folder) / f"one-{number}", 1)
            rows[ONE] += lines[SKIPPED:]
        lines, starts[TWO] = on_ray(recipe, file, Path(folder) / "two", 2)
        rows[TWO] = lines[SKIPPED:]
    table = Table("training", "images/s", "of the bare loop", "ms a step", "waiting for data", "start-up")
    steps = {name: median(line["seconds"] for line in lines) for name, lines in rows.items()}
    for name, lines in rows.items():
        waited = sum(line["waited"] for line in lines) / sum(line["seconds"] for line in lines)
        table.add_row(
            name,
            f"{given.batch / steps[name]:.1f}",
            f"{steps[BARE] / steps[name]:.2f}",
            f"{1000 * steps[name]:.1f}",
            f"{waited:.1%}",
            f"{starts[name]:.1f} s" if name in starts else "",
        )
    console = Console(width=120, highlight=False)
    console.print(table)
    console.print(f"Ray's cost of a step: {1000 * (steps[ONE] - steps[HERE]):.1f} ms")
    console.print(f"decoding: {decode_rate(recipe):,.0f} images/s per core")


def decode_rate(recipe: TrainingRecipe) -> float:
    """Images per second that one thread reads, decodes and augments."""
    (data,) = recipe.data
    found = open_data_set(data.name, place_of(str(data.url)), label=data.label, cache=None)
    reader = Reader(found)
    places = [(shard, row) for shard, count in enumerate(found.counts) for row in range(count)][:400]
    began = time.perf_counter()
    for number, place in enumerate(places):
        sample = decode(reader.read(*place), data.label)
        augment(sample.image, sample.label, recipe.augmentation, seed=0, step=number, slot=0)
    return len(places) / (time.perf_counter() - began)


if __name__ == "__main__":
    main()
