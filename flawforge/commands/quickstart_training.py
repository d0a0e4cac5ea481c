"""The training of the quickstart: a small detector on the new samples, compared with the region selector."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from actors.segmentation.segmenter import Segmenter
from eval.evaluate import Evaluation, best_threshold, evaluate
from eval.labelled import read_labelled
from eval.metrics import Interval, counts, difference
from eval.splits import open_split
from train.segmentation import FineTuning, fine_tune, load, save, two_classes

START = "tinytown/segmenter-convnext"
SELECTOR = "tinytown/regions-convnext"
SEED = 0


@dataclass(frozen=True)
class Training:
    """A trained detector and its scores on the validation images.

    Attributes:
        samples: number of training images.
        detector, selector: scores, each at its own best threshold on the same images.
        gain: IoU_fg of the detector minus that of the selector, paired by image.
        folder: the weights of the detector.
    """

    samples: int
    detector: Evaluation
    selector: Evaluation
    gain: Interval
    folder: Path


def train_detector(
    shards: list[str], folder: Path, steps: int, show: Callable[[int, float], None]
) -> Training:
    """Train a detector on shards, starting from the segmenter of parts as the region selector did.

    Args:
        shards: paths or URLs of tars.
        folder: where to save the detector.
        steps: training steps of 8 images each.
        show: called with the step and the loss.

    Raises:
        EvaluationError: the shards hold no sample.
    """
    data = read_labelled(shards)
    net = two_classes(load(START), seed=SEED)
    settings = FineTuning(iterations=steps, learning_rate=3e-4, seed=SEED)
    fine_tune(net, data.images, data.labels, settings, report=show)
    save(net, folder)
    truth = open_split("validation")
    scores = [Segmenter(name, batch_size=20)(truth.images) for name in (str(folder), SELECTOR)]
    found = [_at_its_best(truth.masks, score) for score in scores]
    ours, theirs = (
        counts(truth.masks, score >= one.threshold) for score, one in zip(scores, found, strict=True)
    )
    return Training(len(data.keys), found[0], found[1], difference(ours, theirs), folder)


def _at_its_best(truth: NDArray[np.bool_], scores: NDArray[np.float32]) -> Evaluation:
    return evaluate(truth, scores, best_threshold(truth, scores))
