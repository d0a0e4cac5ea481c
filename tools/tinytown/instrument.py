"""What can be told apart on tinytown's validation split: blind baselines below, detectors of 2,000 labels above.

`python -m tools.tinytown.instrument --out DIR` trains `DIR/upper-convnext` and `DIR/upper-swin` on the split
`labelled-2000`, and writes `DIR/splits/reference.json`, which reports print beside their own figures. Every threshold
is the best one on the images that are measured, for blind baselines too.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from numpy.typing import NDArray

from actors.segmentation.segmenter import Segmenter, load_upernet, normalisation_of
from eval.evaluate import best_threshold, evaluate
from eval.labelled import Labelled
from eval.metrics import Interval
from eval.metrics.objects import Objects, joined, object_auroc, objects_of
from eval.splits import open_split
from tinytown.render import PARTS, render
from tinytown.scene import sample_scene
from tools.tinytown.segmenter import KINDS, round_trip
from train.recipe import TrainingRecipe, load_training, with_data
from train.run import train as run

log = logging.getLogger(__name__)

RENDERS = range(1_050_000_000, 1_050_000_300)
"""Seeds of the clean renders: of no split, and of no image that was trained on."""

BATCH = 20
Scores = NDArray[np.float32]
Score = Callable[[NDArray[np.uint8]], Scores]
"""From images, uint8 [N, 64, 64, 3], to scores, [N, 64, 64]."""


@dataclass(frozen=True)
class CleanRenders:
    """Scenes that went through the autoencoder, as wild images did.

    Attributes:
        images: uint8 [N, 64, 64, 3].
        objects: uint8 [N, 64, 64], 0 for the background, i + 1 for a scene's i-th object.
    """

    images: NDArray[np.uint8]
    objects: NDArray[np.uint8]


@dataclass(frozen=True)
class Figures:
    """What scores are worth on the split and on clean renders.

    Attributes:
        threshold: the best one for `iou_fg` on the split.
        iou_fg: pooled, with its interval over images.
        average_precision: over pixels.
        auroc_within: broken objects against intact ones of images with artifacts, by their mean score.
        auroc_clean: broken objects against those of images without artifact.
        auroc_renders: broken objects against those of clean renders.
        area_clean: share of the images without artifact that reaches the threshold.
        area_renders: share of the clean renders that reaches the threshold.
    """

    threshold: float
    iou_fg: Interval
    average_precision: float
    auroc_within: float
    auroc_clean: float
    auroc_renders: float
    area_clean: float
    area_renders: float

    def row(self) -> dict[str, object]:
        """The row of `reference.json`."""
        iou = self.iou_fg
        return {
            "iou_fg": [round(value, 4) for value in (iou.value, iou.low, iou.high)],
            "average_precision": round(self.average_precision, 4),
            "object_auroc_within": round(self.auroc_within, 4),
            "object_auroc_clean": round(self.auroc_clean, 4),
            "clean_area": round(self.area_clean, 4),
        }


def clean_renders(vae: AutoencoderKL, seeds: range = RENDERS) -> CleanRenders:
    """Renders of these seeds after the autoencoder."""
    drawn = [render(sample_scene(seed)) for seed in seeds]
    return CleanRenders(
        round_trip(vae, np.stack([one.image for one in drawn])), np.stack([one.things for one in drawn])
    )


def measure(split: Labelled, scores: Scores, clean: CleanRenders, scores_of_clean: Scores) -> Figures:
    """The figures of scores of a split's images and of clean renders, each [N, 64, 64]."""
    assert split.objects is not None
    found = evaluate(split.masks, scores, best_threshold(split.masks, scores))
    wild = _objects(split.objects, split.masks, scores, found.threshold)
    empty = ~split.masks.any(axis=(1, 2))
    of_empty = empty[wild.images]
    broken = wild.of(wild.broken())
    intact = wild.of(wild.intact() & ~of_empty)
    nothing = np.zeros(clean.objects.shape, np.bool_)
    of_renders = _objects(clean.objects, nothing, scores_of_clean, found.threshold, first=len(scores))
    aurocs = [
        object_auroc(broken, others, by_area=False).value
        for others in (intact, wild.of(of_empty), of_renders)
    ]
    return Figures(
        found.threshold,
        found.iou_fg,
        found.average_precision,
        *aurocs,
        area_clean=float((scores[empty] >= found.threshold).mean()),
        area_renders=float((scores_of_clean >= found.threshold).mean()),
    )


def class_prior(segmenter: str, labelled: Labelled) -> Score:
    """Scores every pixel by how often its part is an artifact in labelled images, whatever it looks like.

    Args:
        segmenter: a part segmenter.
        labelled: where the shares are counted.
    """
    parts = _parts(segmenter, labelled.images)
    shares = [
        float(labelled.masks[parts == part].mean()) if (parts == part).any() else 0.0 for part in _NUMBERS
    ]
    prior = np.array(shares, np.float32)
    return lambda images: prior[_parts(segmenter, images)]


def upper_recipe(kind: str, steps: int, threads: int) -> TrainingRecipe:
    """The training of a detector of the split `labelled-2000`, otherwise as the region selector is trained."""
    changes = (
        f"model.checkpoint=tinytown/segmenter-{kind}",
        f"iterations={steps}",
        f"validation.every={steps // 4}",
        f"execution.threads={threads}",
    )
    return with_data(load_training("train-tinytown-regions", changes), ["labelled=tinytown/labelled-2000"])


_NUMBERS = range(len(PARTS))


@torch.no_grad()
def _parts(segmenter: str, images: NDArray[np.uint8]) -> NDArray[np.int64]:
    """The most likely part of every pixel, int64 [N, 64, 64]."""
    net, normalise = load_upernet(segmenter), normalisation_of(segmenter)
    rows = []
    for first in range(0, len(images), BATCH):
        pixels = torch.from_numpy(images[first : first + BATCH]).permute(0, 3, 1, 2).float()
        rows.append(net(normalise(pixels)).logits.argmax(1).numpy())
    return np.concatenate(rows)


def _objects(
    labels: NDArray[np.uint8], truth: NDArray[np.bool_], scores: Scores, threshold: float, *, first: int = 0
) -> Objects:
    return joined(
        [
            objects_of(first + number, *one, threshold)
            for number, one in enumerate(zip(labels, truth, scores, strict=True))
        ]
    )


def main() -> None:
    """Trains the upper bounds and writes the rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="work folder: holds vae/ and splits/")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(arguments.threads)
    split, labelled = open_split("validation"), open_split("labelled")
    assert split.objects is not None
    clean = clean_renders(AutoencoderKL.from_pretrained(arguments.out / "vae").eval())
    rows = {
        "blind: all objects": measure(
            split, (split.objects > 0).astype(np.float32), clean, (clean.objects > 0).astype(np.float32)
        )
    }
    scorers: dict[str, Score] = {"blind: class prior": class_prior("tinytown/segmenter-convnext", labelled)}
    for kind in KINDS:
        folder = arguments.out / f"upper-{kind}"
        run(upper_recipe(kind, arguments.steps, arguments.threads), str(folder), tell=log.info)
        scorers[f"upper bound, {kind}"] = Segmenter(str(folder), batch_size=BATCH)
    for name, score in scorers.items():
        rows[name] = measure(split, score(split.images), clean, score(clean.images))
    for name, found in rows.items():
        log.info("%s: %s", name, found)
    document = {"validation": {name: found.row() for name, found in rows.items()}}
    (arguments.out / "splits" / "reference.json").write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
