"""Which of two detectors is better: the paired difference on the same images, over several seeds of their training.

Detectors find the same images hard, so a paired interval is far narrower than the two intervals suggest. It tells
whether other images could turn the result. Whether another training could is told by the range of the seeds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from actors.errors import EvaluationError
from eval.metrics.bootstrap import RESAMPLES, Interval, Measure, Values, bootstrap, interval_of
from eval.metrics.levels import ScoreSums, average_precision_of
from eval.metrics.masks import iou_of


@dataclass(frozen=True)
class Comparison:
    """A figure of one detector minus that of another.

    Attributes:
        difference: with its interval over images.
        by_seed: the difference of each pair of trainings of the same seed.
    """

    difference: Interval
    by_seed: tuple[float, ...]

    @property
    def seeds(self) -> tuple[float, float]:
        """The range of the seeds: smallest and largest difference."""
        return min(self.by_seed), max(self.by_seed)


def compare(
    first: NDArray[np.int64],
    second: NDArray[np.int64],
    measure: Measure = iou_of,
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Comparison:
    """Compare pooled counts: those of each image are averaged over the seeds, then images are resampled.

    Args:
        first, second: `eval.metrics.counts` of the same images, int64 [S, N, 3] for S seeds of the training, or [N, 3];
            each at a threshold that was chosen on other images.
        measure: of counts, such as `iou_of` or `f1_of`.
        seed, resamples: of the interval.

    Raises:
        EvaluationError: other images or numbers of seeds, or none.
    """
    if first.shape != second.shape or first.ndim not in (2, 3) or not first.size:
        raise EvaluationError(
            f"a paired comparison needs counts [S, N, 3] of the same N images and S seeds twice, or [N, 3]: found "
            f"{first.shape} and {second.shape}"
        )
    both = np.concatenate([first, second], axis=-1).reshape(-1, *first.shape[-2:-1], 6)

    def difference(sums: Values) -> Values:
        return measure(sums[:, :3]) - measure(sums[:, 3:])

    by_seed = difference(both.sum(axis=1).astype(np.float64))
    return Comparison(bootstrap(both.mean(axis=0), difference, seed, resamples), tuple(map(float, by_seed)))


def compare_scores(
    first: Sequence[ScoreSums], second: Sequence[ScoreSums], measure: Measure = average_precision_of
) -> Comparison:
    """Compare threshold-free figures: the mean over seeds of each detector, in the same resamples of the images.

    Args:
        first, second: sums of the same images, one for each seed of the training; all with one bootstrap seed.
        measure: of histograms, such as `average_precision_of` or `auroc_of`.

    Raises:
        EvaluationError: other numbers of images or seeds, or none.
    """
    if len(first) != len(second) or not first or len({one.images for one in (*first, *second)}) != 1:
        raise EvaluationError(
            "a paired comparison needs the same images and seeds twice: found "
            f"{[one.images for one in first]} and {[one.images for one in second]} images"
        )
    values = [[one.value(measure) for one in side] for side in (first, second)]
    resampled = [np.mean([one.replicates(measure) for one in side], axis=0) for side in (first, second)]
    by_seed = tuple(ours - theirs for ours, theirs in zip(*values, strict=True))
    return Comparison(interval_of(float(np.mean(by_seed)), resampled[0] - resampled[1]), by_seed)
