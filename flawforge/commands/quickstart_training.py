"""The training of the quickstart: a small detector on the new samples, compared with the region selector."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from actors.segmentation.segmenter import Segmenter
from eval.evaluate import Evaluation, best_threshold, evaluate
from eval.metrics import Interval, compare, counts
from eval.reference_rows import ReferenceRow, reference_rows
from eval.splits import ROOT, open_split
from flawforge import api
from train.progress import Progress
from train.trained import Trained

RECIPE = "train-tinytown-detector"
SELECTOR = "tinytown/regions-convnext"
SPLIT = "validation"


@dataclass(frozen=True)
class Training:
    """A trained detector and its scores on the validation images.

    Attributes:
        trained: what Ray Train did.
        detector, selector: scores, each at its own best threshold on the same images.
        gain: IoU_fg of the detector minus that of the selector, paired by image.
        folder: the detector.
        references: blind baselines and upper bounds on the same images.
    """

    trained: Trained
    detector: Evaluation
    selector: Evaluation
    gain: Interval
    folder: str
    references: Mapping[str, ReferenceRow]


def train_detector(
    out: str, folder: str, steps: int, show: Callable[[Progress], None], tell: Callable[[str], None]
) -> Training:
    """Train a detector on an output, starting from the segmenter of parts as the region selector did.

    Args:
        out: the output of the build.
        folder: where to train the detector.
        steps: training steps of 8 images each.
        show: called with the progress.
        tell: called with messages.

    Raises:
        OutputError: the folder holds another training.
    """
    changes = [f"iterations={steps}", f"optimizer.warm_up={min(50, steps // 6)}", f"validation.every={steps}"]
    trained = api.train(RECIPE, folder, data=out, overrides=changes, show=show, tell=tell)
    truth = open_split(SPLIT)
    scores = [Segmenter(name, batch_size=20)(truth.images) for name in (folder, SELECTOR)]
    found = [_at_its_best(truth.masks, score) for score in scores]
    ours, theirs = (
        counts(truth.masks, score >= one.threshold) for score, one in zip(scores, found, strict=True)
    )
    return Training(
        trained,
        found[0],
        found[1],
        compare(ours, theirs).difference,
        folder,
        reference_rows(SPLIT, ROOT),
    )


def _at_its_best(truth: NDArray[np.bool_], scores: NDArray[np.float32]) -> Evaluation:
    return evaluate(truth, scores, best_threshold(truth, scores))
