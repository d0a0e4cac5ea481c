"""IoU_fg of a segmenter on labelled images, at every candidate threshold, with the images dealt to all workers."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor, nn

from actors.segmentation.normalisation import Normalisation
from eval.evaluate import CANDIDATES
from eval.metrics import iou_of, precision_of, recall_of
from eval.metrics.sweep import counts_at_thresholds
from train.augmentation import padded
from train.data.reading import Reader
from train.data.samples import IGNORED, Sample, decode
from train.distributed import Workers
from train.task import Scores

SMALLEST = 32
"""Pixels along a side that backbones of stride 32 need; smaller images are padded."""

_AT_ONCE = 16
"""Images of equal size in one forward pass, at most."""

_LARGEST = 1 << 22
"""Pixels in one forward pass, at most, unless a single image has more."""


@torch.no_grad()
def validate(
    network: nn.Module, reader: Reader, normalisation: Normalisation, workers: Workers, *, decoders: int
) -> Scores:
    """Score a network.

    Args:
        network: a UperNet of two classes, on the worker's device; in evaluation mode afterwards.
        reader: of the validation data, with the label `mask`.
        normalisation: of pixels.
        workers: that share the work; the result is the same on all.
        decoders: threads that read images.

    Returns:
        Pooled IoU_fg at its best threshold (the smallest of equal ones), that threshold, and precision and recall. By
        the rule of `eval.metrics`, all are 1 where there are no artifacts and none are found.

    Raises:
        TrainingError: a sample that cannot be read.
    """
    network.eval()
    dtype = next(network.parameters()).dtype
    thresholds = torch.tensor(CANDIDATES, dtype=torch.float32, device=workers.device)
    table = torch.zeros((2, len(CANDIDATES) + 1), dtype=torch.float64, device=workers.device)
    for images, labels in _batches(reader, workers, decoders):
        pixels = normalisation(torch.from_numpy(images).permute(0, 3, 1, 2).float())
        logits = network(pixels.to(workers.device, dtype)).logits
        scores = logits.float().softmax(1)[:, 1].contiguous()
        table += _histogram(scores, torch.from_numpy(labels).to(workers.device), thresholds)
    return _scores(workers.total(table).cpu())


def _histogram(scores: Tensor, labels: Tensor, thresholds: Tensor) -> Tensor:
    """`eval.metrics.sweep.reached_histogram` where the scores are, as float64, which workers can add up."""
    reached = torch.bucketize(scores, thresholds, right=True)
    known = labels != IGNORED
    cells = labels[known].long() * (len(thresholds) + 1) + reached[known]
    return torch.bincount(cells, minlength=2 * (len(thresholds) + 1)).view(2, -1).double()


def _scores(table: Tensor) -> Scores:
    counts = counts_at_thresholds(table.numpy())
    iou = iou_of(counts)
    best = int(iou.argmax())
    figures = {
        "iou_fg": float(iou[best]),
        "threshold": CANDIDATES[best],
        "iou_fg_at_0.5": float(iou[CANDIDATES.index(0.5)]),
        "precision": float(precision_of(counts[best])),
        "recall": float(recall_of(counts[best])),
    }
    return Scores(figures["iou_fg"], CANDIDATES[best], figures)


def _batches(reader: Reader, workers: Workers, decoders: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """This worker's images and labels, consecutive ones of one size together."""
    group: list[Sample] = []
    for sample in _samples(reader, workers, decoders):
        full = len(group) >= _AT_ONCE or (len(group) + 1) * sample.label.size > _LARGEST
        if group and (full or sample.image.shape != group[0].image.shape):
            yield np.stack([one.image for one in group]), np.stack([one.label for one in group])
            group = []
        group.append(sample)
    if group:
        yield np.stack([one.image for one in group]), np.stack([one.label for one in group])


def _samples(reader: Reader, workers: Workers, decoders: int) -> Iterator[Sample]:
    data_set = reader.data_set
    places = [(shard, row) for shard, count in enumerate(data_set.counts) for row in range(count)]
    mine = places[workers.rank :: workers.world]

    def read(place: tuple[int, int]) -> Sample:
        sample = decode(reader.read(*place), data_set.label)
        image, label = padded(sample.image, sample.label, SMALLEST, SMALLEST)
        return Sample(sample.key, image, label)

    with ThreadPoolExecutor(decoders, thread_name_prefix="validation") as pool:
        window = 4 * decoders
        for first in range(0, len(mine), window):
            yield from pool.map(read, mine[first : first + window])
