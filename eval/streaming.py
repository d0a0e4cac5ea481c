"""An evaluation that takes one image after another: memory holds counts, and a bounded sample for the baseline."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from actors.errors import EvaluationError
from actors.masks import Mask
from eval import metrics
from eval.evaluate import CANDIDATES, Evaluation, Regions, evaluation_of, pooled_random_iou
from eval.labelled import LabelledSample
from eval.metrics import Counts, Interval

BASELINE_PIXELS = 1 << 25
"""Of the images whose regions are kept for the baseline, 3 bytes each: 128 images of 512 x 512."""

MOST_WAITING = 4
"""Full batches of images that may wait for others of their size."""

WAITING_PIXELS = 1 << 26
"""Of waiting images, 3 bytes each."""

_MOST_THRESHOLDS = 255


@dataclass(frozen=True)
class _Kept:
    """An image of the baseline's sample.

    Attributes:
        levels: number of thresholds that each score reaches, uint8 [H, W].
        truth, counted: see `eval.evaluate.Regions`.
    """

    levels: NDArray[np.uint8]
    truth: NDArray[np.bool_]
    counted: NDArray[np.bool_]


class StreamedEvaluation:
    """The figures of `eval.evaluate.evaluate` for images that are added one at a time and may differ in size.

    Per image and threshold it keeps three counts. The baseline of random regions also needs the regions themselves: it
    keeps those of a random sample of the images, drawn from `seed`, whatever the order in which they are added.

    Args:
        thresholds: at which pixels are counted, at most 255; one of them is chosen when all images are in.
        baseline_pixels: of the sample for the baseline; at least one image is kept.
        seed: of that sample, the bootstrap and the random regions.
    """

    def __init__(
        self,
        thresholds: Sequence[float] = CANDIDATES,
        *,
        baseline_pixels: int = BASELINE_PIXELS,
        seed: int = 0,
    ) -> None:
        assert 0 < len(thresholds) <= _MOST_THRESHOLDS
        self.thresholds = tuple(thresholds)
        self.seed = seed
        self.pixels = self.ignored_pixels = 0
        self.baseline_pixels = baseline_pixels
        self._sorted = sorted(self.thresholds)
        self._counts: dict[int, Counts] = {}
        self._counted: dict[int, int] = {}
        self._everything = np.zeros(metrics.LEVELS, np.int64)
        self._positive = np.zeros(metrics.LEVELS, np.int64)
        self._kept: dict[int, _Kept] = {}
        self._by_priority: list[tuple[float, int]] = []
        self._kept_pixels = 0

    @property
    def images(self) -> int:
        """How many were added."""
        return len(self._counts)

    @property
    def baseline_images(self) -> int:
        """How many of them the baseline is drawn from."""
        return len(self._kept)

    def add(self, number: int, mask: Mask, scores: NDArray[np.floating], *, where: str) -> None:
        """Counts one image.

        Args:
            number: its place in the set, which the intervals depend on.
            mask: the truth.
            scores: 0 to 1, [H, W].
            where: the image, for messages.

        Raises:
            EvaluationError: scores of another shape, or that are not numbers from 0 to 1.
        """
        if scores.shape != mask.inside.shape:
            raise EvaluationError(
                f"{where}: scores {scores.shape} and mask {mask.inside.shape} must have one shape"
            )
        lowest, highest = float(scores.min()), float(scores.max())
        if not (lowest >= 0 and highest <= 1):  # nan is neither
            raise EvaluationError(
                f"{where}: scores must be numbers from 0 to 1; found {lowest:g} to {highest:g}"
            )
        counted = np.ones(mask.inside.shape, np.bool_) if mask.ignored is None else ~mask.ignored
        truth = mask.inside & counted
        # In the scores' own precision, as `scores >= threshold` compares.
        edges = np.asarray(self._sorted, scores.dtype)
        levels = np.searchsorted(edges, scores, side="right").astype(np.uint8)
        self._counts[number] = _counts_by_threshold(levels, truth, counted, len(edges))
        self._counted[number] = int(np.count_nonzero(counted))
        everything, positive = metrics.score_histograms(truth[counted], scores[counted])
        self._everything += everything
        self._positive += positive
        self.pixels += counted.size
        self.ignored_pixels += counted.size - self._counted[number]
        self._keep(number, _Kept(levels, truth, counted))

    def best_threshold(self) -> float:
        """The threshold with the largest pooled IoU_fg, the first of equals. Only for a validation split."""
        return max(self.thresholds, key=lambda threshold: metrics.pooled_iou(self._table(threshold)))

    def evaluation(self, threshold: float) -> Evaluation:
        """All measures at one of the thresholds.

        Raises:
            EvaluationError: no image was added.
        """
        if not self._counts:
            raise EvaluationError("there are no images to evaluate")
        pixels = np.array([self._counted[number] for number in sorted(self._counted)], np.int64)
        average_precision = metrics.average_precision_of(self._everything, self._positive)
        return evaluation_of(self._table(threshold), pixels, threshold, average_precision, seed=self.seed)

    def random_iou(self, threshold: float) -> Interval:
        """`eval.evaluate.random_iou` of the sample; images exchange their regions with others of their size."""
        place = self._sorted.index(threshold)
        sizes: dict[tuple[int, ...], list[_Kept]] = defaultdict(list)
        for number in sorted(self._kept):
            sizes[self._kept[number].truth.shape].append(self._kept[number])
        groups = [
            Regions(
                [one.truth for one in group],
                [one.levels > place for one in group],
                [one.counted for one in group],
            )
            for group in sizes.values()
        ]
        return pooled_random_iou(groups, seed=self.seed)

    def _table(self, threshold: float) -> Counts:
        place = self._sorted.index(threshold)
        return np.stack([self._counts[number][place] for number in sorted(self._counts)])

    def _keep(self, number: int, kept: _Kept) -> None:
        """Keeps the images of the lowest random priorities, as far as their pixels go."""
        priority = float(np.random.default_rng((self.seed, number)).random())
        heapq.heappush(self._by_priority, (-priority, number))
        self._kept[number] = kept
        self._kept_pixels += kept.truth.size
        while self._kept_pixels > self.baseline_pixels and len(self._kept) > 1:
            _, out = heapq.heappop(self._by_priority)
            self._kept_pixels -= self._kept.pop(out).truth.size


def batches(samples: Iterable[LabelledSample], size: int) -> Iterator[list[tuple[int, LabelledSample]]]:
    """Samples of one image size, `size` of them at most, each with its number in the stream.

    Where sizes alternate, samples wait for others of theirs, in bounded number; then those go that have waited longest.
    """
    waiting: dict[tuple[int, ...], list[tuple[int, LabelledSample]]] = {}
    count = pixels = 0
    for number, sample in enumerate(samples):
        shape = sample.image.shape[:2]
        waiting.setdefault(shape, []).append((number, sample))
        count, pixels = count + 1, pixels + sample.mask.inside.size
        full = len(waiting[shape]) == size
        if full or count > MOST_WAITING * size or pixels > WAITING_PIXELS:
            group = waiting.pop(shape if full else next(iter(waiting)))
            count, pixels = count - len(group), pixels - len(group) * group[0][1].mask.inside.size
            yield group
    yield from waiting.values()


def _counts_by_threshold(
    levels: NDArray[np.uint8], truth: NDArray[np.bool_], counted: NDArray[np.bool_], thresholds: int
) -> Counts:
    """True positives, false positives and false negatives at every threshold in ascending order: int64 [T, 3]."""
    everything, positive = (
        # Pixels that reach at least each number of thresholds; the first entry is all of them.
        np.bincount(levels[chosen], minlength=thresholds + 1)[::-1].cumsum()[::-1]
        for chosen in (counted, truth)
    )
    hits = positive[1:]
    return np.stack([hits, everything[1:] - hits, positive[0] - hits], axis=1).astype(np.int64)
