"""Which label is better to learn from: detectors of the embedded world, trained by `flawforge train`, on validation.

`python -m benchmarks.detectors --made OUT --negatives OUT --work FOLDER` trains a region selector on the 100 labelled
images, and detectors on an output of the factory with each of its labels, without and with clean negatives; several
seeds each. It prints, at the threshold that is best on validation: IoU_fg, pixel AP, whether broken objects are told
from intact ones, and the area marked where nothing is broken; then the paired differences. A training that is finished
is not run again, so the program can be stopped and started; `--rows` runs some of the rows.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

import flawforge
from actors.diffusion.model import DiffusionModel
from actors.segmentation.segmenter import Segmenter
from benchmarks.curves import draw, losses_of, smoothed
from eval.labelled import Labelled
from eval.metrics import Counts, Interval, ScoreSums, counts
from eval.metrics.bootstrap import resampled
from eval.metrics.comparison import Comparison, compare, compare_scores
from eval.metrics.masks import iou_of
from eval.splits import open_split
from factory.recipe.strict_yaml import dump_yaml
from tools.tinytown.instrument import CleanRenders, Figures, clean_renders, measure
from train.recipe import load_training

LABELS = ("mask", "changed", "judged")
NEGATIVE = "clean negatives"
SELECTOR = "selector"
console = Console(width=190)


@dataclass(frozen=True)
class Trained:
    """One training on validation.

    Attributes:
        figures: see `tools.tinytown.instrument.measure`.
        counts: int64 [N, 3] at the threshold of the figures.
        sums: of pixels, for differences of average precision.
    """

    figures: Figures
    counts: Counts
    sums: ScoreSums


def recipe(name: str, seed: int, given: argparse.Namespace) -> str:
    """The recipe of a row, `selector` or `LABEL` or `LABEL, clean negatives`, as YAML."""
    base = load_training(
        "train-tinytown-detector",
        [
            f"iterations={given.steps}",
            f"seed={seed}",
            f"validation.every={given.steps // 2}",
            f"model.checkpoint=tinytown/segmenter-{given.kind}",
        ],
    )
    document = base.model_dump(mode="json")
    if name == SELECTOR:
        data = [{"name": "labelled", "url": "tinytown/labelled", "label": "mask"}]
        return dump_yaml({**document, "name": "selector", "kind": "regions", "data": data})
    label, _, negatives = name.partition(", ")
    data = [{"name": "corrupted", "url": given.made, "weight": 1.0, "label": label}]
    if negatives:
        data.append({"name": "clean", "url": given.negatives, "weight": given.negative, "label": "none"})
    return dump_yaml({**document, "data": data})


def trained(name: str, seed: int, given: argparse.Namespace, split: Labelled, clean: CleanRenders) -> Trained:
    """Trains a row with one seed, and scores validation and clean renders."""
    file = given.work / f"{given.kind}-{name.replace(', ', '-').replace(' ', '-')}-{seed}.yaml"
    file.write_text(recipe(name, seed, given))
    out = file.with_suffix("")
    flawforge.train(file, out)
    segmenter = Segmenter(str(out), batch_size=20)
    scores = segmenter(split.images)
    figures = measure(split, scores, clean, segmenter(clean.images))
    sums = ScoreSums()
    for number, (truth, found) in enumerate(zip(split.masks, scores, strict=True)):
        sums.add(number, truth, found, where=split.keys[number])
    return Trained(figures, counts(split.masks, scores >= figures.threshold), sums)


def show(rows: dict[str, list[Trained]], title: str) -> None:
    """Prints a row for each name: means over seeds with the range of the seeds."""
    table = Table(
        "trained on",
        "IoU_fg",
        "AP",
        "broken / intact",
        "/ clean images",
        "/ clean renders",
        "clean images",
        "clean renders",
        "at",
        title=title,
    )
    for name, ones in rows.items():
        iou = _pooled(ones)
        column = {field.name: [getattr(one.figures, field.name) for one in ones] for field in fields(Figures)}
        shares = (
            "average_precision",
            "auroc_within",
            "auroc_clean",
            "auroc_renders",
            "area_clean",
            "area_renders",
        )
        table.add_row(
            name,
            f"{iou.value:.1%} [{iou.low:.1%}, {iou.high:.1%}]",
            *(_range(column[share]) for share in shares),
            "/".join(f"{one:.2f}" for one in column["threshold"]),
        )
    console.print(table)


def show_differences(rows: dict[str, list[Trained]]) -> None:
    """Prints every row minus the row of the paper's label with the same negatives, paired."""
    table = Table("difference", "IoU_fg", "by seed", "AP", "by seed", title="against the label mask, paired")
    for name, ones in rows.items():
        label, comma, negatives = name.partition(", ")
        base = rows.get(f"mask{comma}{negatives}")
        if base is None or label in ("mask", SELECTOR):
            continue
        iou = compare(np.stack([one.counts for one in ones]), np.stack([one.counts for one in base]))
        precision = compare_scores([one.sums for one in ones], [one.sums for one in base])
        table.add_row(name, *_difference(iou), *_difference(precision))
    console.print(table)


def _pooled(ones: Sequence[Trained]) -> Interval:
    averaged = np.stack([one.counts for one in ones]).mean(axis=0)
    return resampled(averaged)(iou_of)


def _range(values: Sequence[float]) -> str:
    return f"{np.mean(values):.3f} [{min(values):.3f}, {max(values):.3f}]"


def _difference(found: Comparison) -> tuple[str, str]:
    one = found.difference
    by_seed = " ".join(f"{100 * value:+.1f}" for value in found.by_seed)
    return f"{100 * one.value:+.1f} [{100 * one.low:+.1f}, {100 * one.high:+.1f}]", by_seed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--made", required=True, help="an output of the factory, with judged.png for that label"
    )
    parser.add_argument("--negatives", required=True, help="an output of the recipe tinytown-negatives")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--kind", choices=("convnext", "swin"), default="convnext")
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--negative", type=float, default=1.0, help="weight of the negatives; corrupted have 1"
    )
    every = [SELECTOR, *LABELS, *(f"{label}, {NEGATIVE}" for label in LABELS)]
    parser.add_argument("--rows", nargs="*", default=every, help="; ".join(every))
    parser.add_argument("--curves", type=Path)
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    split, clean = open_split("validation"), clean_renders(DiffusionModel("tinytown").vae)
    rows: dict[str, list[Trained]] = {}
    for seed in range(given.seeds):
        for name in given.rows:
            rows.setdefault(name, []).append(trained(name, seed, given, split, clean))
            show(rows, f"{given.kind}, {given.steps} steps, {len(split.keys)} validation images")
    show_differences(rows)
    if given.curves:
        folders = {
            name: given.work / f"{given.kind}-{name.replace(', ', '-').replace(' ', '-')}-0" for name in rows
        }
        curves = {name: smoothed(losses_of(out), 25) for name, out in folders.items()}
        draw(curves, given.curves, across="step (mean of 25)")


if __name__ == "__main__":
    main()
