"""What predictions are worth: measures of masks, scores, regions and objects, with bootstrap intervals over images.

| module | measures |
|---|---|
| `masks` | IoU_fg, mIoU, F1, precision, recall at a threshold, pooled and per image; agreement of people |
| `sweep` | counts at many thresholds from one histogram |
| `levels` | pixel AP and AUROC, calibration error, Brier; of pixels, objects or images, with fixed memory |
| `ranking` | AUROC, AP and rank correlation of images and objects, exact in ties |
| `components` | recall and precision of regions |
| `objects` | AUROC of broken against intact objects |
| `saliency` | CC, SIM, KLD, NSS, AUC-Judd, MSE of maps |
| `comparison` | two detectors on the same images, over seeds |
| `bootstrap` | the intervals |

All is numpy in float64: torchmetrics divides counts in float32, and keeps no sums per image, which the intervals need.
Its own bootstrap updates a copy of the metric for each of the resamples.
"""

from eval.metrics.bootstrap import CONFIDENCE, REPLICATES, RESAMPLES, Interval, ResampledSums
from eval.metrics.comparison import Comparison, compare, compare_scores
from eval.metrics.components import RegionSums, region_counts
from eval.metrics.levels import LEVELS, ScoreSums, auroc, average_precision
from eval.metrics.masks import (
    Counts,
    Masks,
    agreement,
    counts,
    f1,
    f1_of,
    iou_fg,
    iou_of,
    iou_per_image,
    mean_per_image,
    miou_2class,
    pooled_iou,
    precision,
    precision_of,
    recall,
    recall_of,
)
from eval.metrics.objects import Objects, object_auroc, objects_of
from eval.metrics.saliency import Saliency, SaliencyMeans

__all__ = [
    "CONFIDENCE",
    "LEVELS",
    "REPLICATES",
    "RESAMPLES",
    "Comparison",
    "Counts",
    "Interval",
    "Masks",
    "Objects",
    "RegionSums",
    "ResampledSums",
    "Saliency",
    "SaliencyMeans",
    "ScoreSums",
    "agreement",
    "auroc",
    "average_precision",
    "compare",
    "compare_scores",
    "counts",
    "f1",
    "f1_of",
    "iou_fg",
    "iou_of",
    "iou_per_image",
    "mean_per_image",
    "miou_2class",
    "object_auroc",
    "objects_of",
    "pooled_iou",
    "precision",
    "precision_of",
    "recall",
    "recall_of",
    "region_counts",
]
