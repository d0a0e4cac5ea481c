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
from rich.console import Console
from rich.table import Table

import flawforge
from actors.segmentation.segmenter import Segmenter
from benchmarks.curves import draw, losses_of, smoothed
from eval.evaluate import best_threshold, evaluate
from eval.splits import open_split
from factory.recipe.strict_yaml import dump_yaml
from tinytown.render import render
from tinytown.scene import sample_scene
from train.recipe import load_training

CLEAN = range(910_000, 910_200)
"""Seeds of clean renders."""


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
        curves[name] = smoothed(losses_of(out), 25)
    Console(width=140).print(table)
    if given.curves:
        draw(curves, given.curves, across="step (mean of 25)")


if __name__ == "__main__":
    main()
