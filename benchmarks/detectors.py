"""Region selector and detectors of the embedded world, trained by `flawforge train`, compared on validation.

`python -m benchmarks.detectors --made OUT --negatives OUT --work FOLDER` trains, one seed each, a region selector on
the 100 labelled images, and detectors on an output of the recipe quickstart with the labels `mask` and `changed`, each
without and with clean negatives. It prints IoU_fg on the validation images with intervals, at the threshold that is
best there, and the area that is marked on clean renders; `--curves FILE` draws the losses. A training that is finished
is not run again.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from rich.console import Console
from rich.table import Table

import flawforge
from actors.segmentation.segmenter import Segmenter
from eval.evaluate import best_threshold, evaluate
from eval.splits import open_split
from factory.recipe.strict_yaml import dump_yaml
from tinytown.render import render
from tinytown.scene import sample_scene
from train.recipe import load_training

CLEAN = range(910_000, 910_200)
"""Seeds of clean renders."""

COLOURS = ("#444444", "#1f77b4", "#d62728", "#17a05d", "#b8860b")


def recipes(made: str, negatives: str, steps: int) -> dict[str, str]:
    """The recipes by name, as YAML."""
    base = load_training("train-tinytown-detector", [f"iterations={steps}", f"validation.every={steps // 4}"])
    document = base.model_dump(mode="json")
    labelled = {**document, "name": "selector", "kind": "regions"}
    labelled["data"] = [{"name": "labelled", "url": "tinytown/labelled", "label": "mask"}]
    found = {"selector, 100 labelled": dump_yaml(labelled)}
    for label in ("mask", "changed"):
        corrupted = {"name": "corrupted", "url": made, "weight": 3.0, "label": label}
        clean = {"name": "clean", "url": negatives, "weight": 1.0, "label": "none"}
        found[f"detector, {label}"] = dump_yaml({**document, "data": [corrupted]})
        found[f"detector, {label}, clean negatives"] = dump_yaml({**document, "data": [corrupted, clean]})
    return found


def smoothed(out: Path, window: int = 25) -> NDArray[np.float64]:
    """The losses of a training, as running means."""
    losses = [json.loads(line)["loss"] for line in (out / "log.jsonl").read_text().splitlines()]
    return np.convolve(losses, np.ones(window) / window, mode="valid")


def draw(curves: dict[str, NDArray[np.float64]], file: Path) -> None:
    """Draw losses against steps, with a legend."""
    width, height, margin = 900, 480, 50
    canvas = Image.new("RGB", (width, height), "white")
    pen = ImageDraw.Draw(canvas)
    top = max(float(curve.max()) for curve in curves.values())
    longest = max(len(curve) for curve in curves.values())
    for part in range(5):
        y = height - margin - part / 4 * (height - 2 * margin)
        pen.line([(margin, y), (width - margin, y)], fill="#dddddd")
        pen.text((8, y - 6), f"{top * part / 4:.2f}", fill="black")
        x = margin + part / 4 * (width - 2 * margin)
        pen.text((x - 10, height - margin + 8), f"{longest * part // 4:,}", fill="black")
    pen.text((width // 2 - 60, height - 20), "step (mean of 25)", fill="black")
    pen.text((8, 12), "loss", fill="black")
    for number, (name, curve) in enumerate(curves.items()):
        xs = margin + np.arange(len(curve)) / longest * (width - 2 * margin)
        ys = height - margin - curve / top * (height - 2 * margin)
        pen.line(list(zip(xs.tolist(), ys.tolist(), strict=True)), fill=COLOURS[number], width=2)
        pen.text((width - 320, 20 + 16 * number), name, fill=COLOURS[number])
    canvas.save(file)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--made", required=True, help="an output of the recipe quickstart")
    parser.add_argument("--negatives", required=True, help="an output of the recipe tinytown-negatives")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--curves", type=Path)
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    truth = open_split("validation")
    clean = np.stack([render(sample_scene(seed)).image for seed in CLEAN])
    table = Table(
        "trained on", "samples", "IoU_fg", "95 % interval", "AP", "at", "area marked on clean renders"
    )
    curves = {}
    for name, text in recipes(given.made, given.negatives, given.steps).items():
        file = given.work / f"{name.replace(', ', '-').replace(' ', '-')}.yaml"
        file.write_text(text)
        out = file.with_suffix("")
        flawforge.train(file, out)
        segmenter = Segmenter(str(out), batch_size=20)
        scores = segmenter(truth.images)
        found = evaluate(truth.masks, scores, best_threshold(truth.masks, scores))
        area = (segmenter(clean) >= found.threshold).mean()
        samples = sum(one["samples"] for one in json.loads((out / "training.json").read_text())["data"])
        iou = found.iou_fg
        table.add_row(
            name,
            f"{samples:,}",
            f"{iou.value:.1%}",
            f"[{iou.low:.1%}, {iou.high:.1%}]",
            f"{found.average_precision:.1%}",
            f"{found.threshold:.2f}",
            f"{area:.1%}",
        )
        curves[name] = smoothed(out)
    Console(width=140).print(table)
    if given.curves:
        draw(curves, given.curves)


if __name__ == "__main__":
    main()
