"""Fine-tunes tinytown's region selectors on the 100 labelled wild images, and shows them on the validation split.

`python -m tools.tinytown.regions --out DIR --kind convnext` starts from `DIR/segmenter-convnext` and writes
`DIR/regions-convnext`. As in the paper: 1,000 iterations at batch 8; the rate is five times as high, since a net of
two million weights that starts from tiny renders has further to go than one from ADE20K.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from actors.segmentation.segmenter import Segmenter, load_upernet
from eval.evaluate import random_iou
from eval.labelled import Labelled
from eval.metrics import average_precision, counts, iou_fg
from eval.splits import ROOT, open_split
from tools.tinytown.data import HELD_OUT
from tools.tinytown.plain_training import save
from tools.tinytown.segmenter import KINDS, drawn_scenes
from train.recipe import load_training, with_data
from train.run import train as run

log = logging.getLogger(__name__)

CLEAN = 200
SMALLEST_AREA = 0.001
"""Share of an image that a region must cover, as in a recipe."""

THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


def train(segmenter: Path, labelled: str, out: Path, overrides: Sequence[str] = ()) -> None:
    """Fine-tune a part segmenter's folder on labelled images by the shipped recipe, and write the region selector.

    Args:
        segmenter: the folder to begin with.
        labelled: tars of the labelled images.
        out: the region selector, in float16; `OUT-training` beside it holds the training, and is resumed.
        overrides: changes of the recipe.
    """
    recipe = with_data(
        load_training(
            "train-tinytown-regions", [f"model.checkpoint={segmenter}", "validation=null", *overrides]
        ),
        [f"labelled={labelled}"],
    )
    training = out.with_name(f"{out.name}-training")
    run(recipe, str(training), tell=log.info)
    save(load_upernet(str(training)), out)


def show(selector: Path, validation: Labelled, clean: NDArray[np.uint8]) -> None:
    """Logs the curve that the threshold is chosen on.

    Args:
        selector: folder of a two-class segmenter.
        validation: labelled images that it was not trained on.
        clean: uint8 [N, H, W, 3], images on which regions are wanted.
    """
    score = Segmenter(str(selector))
    wild, renders = score(validation.images), score(clean)
    log.info("validation: average precision %.3f", average_precision(validation.masks, wild))
    for threshold in THRESHOLDS:
        found = wild >= threshold
        iou = iou_fg(counts(validation.masks, found))
        log.info(
            "threshold %.2f: IoU_fg %.3f [%.3f, %.3f], blindly %.3f, area %.3f; a region in %.3f of clean renders",
            threshold,
            iou.value,
            iou.low,
            iou.high,
            random_iou(validation.masks, found).value,
            found.mean(),
            ((renders >= threshold).mean((1, 2)) >= SMALLEST_AREA).mean(),
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--out", type=Path, required=True, help="work folder: holds segmenter-KIND; gets regions-KIND"
    )
    parser.add_argument("--kind", choices=KINDS, required=True)
    parser.add_argument("--splits", type=Path, help="folder of splits; the shipped ones where not given")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(arguments.threads)
    selector = arguments.out / f"regions-{arguments.kind}"
    train(
        arguments.out / f"segmenter-{arguments.kind}",
        str((arguments.splits or ROOT) / "labelled"),
        selector,
        [f"iterations={arguments.steps}", f"seed={arguments.seed}", f"execution.threads={arguments.threads}"],
    )
    show(selector, open_split("validation", root=arguments.splits), drawn_scenes(HELD_OUT, CLEAN)[0])
