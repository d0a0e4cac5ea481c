"""An evaluation that takes one image after another: parts of a set add up, and memory is bounded.

Up to `ROWS` images, the counts of each are kept, and intervals are those of `eval.evaluate`. Of more images there are
only sums, in Poisson resamples; see `eval.metrics.bootstrap.ResampledSums`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from actors.errors import EvaluationError
from actors.masks import Mask
from eval.baseline_sample import BaselineSample, Kept
from eval.blind import BlindBaselines, BlindFigures
from eval.evaluate import CANDIDATES, Evaluation, evaluation_of, pooled_random_iou
from eval.human_scores import HumanScores, ScorePairs
from eval.image_counts import ROWS, ImageCounts
from eval.labelled import LabelledSample
from eval.metrics import Counts, Interval, ScoreSums, iou_of
from eval.metrics.levels import average_precision_of, check_scores, histogram
from eval.metrics.sweep import MOST_THRESHOLDS, counts_at_thresholds, reached, reached_histogram
from eval.object_sample import ObjectFigures, ObjectSample

BASELINE_PIXELS = 1 << 25
"""Of the images whose regions are kept for the baseline, 3 bytes each: 128 images of 512 x 512."""

MOST_WAITING = 4
"""Full batches of images that may wait for others of their size."""

WAITING_PIXELS = 1 << 26
"""Of waiting images, 3 bytes each."""


@dataclass(frozen=True)
class ThresholdFree:
    """Figures of scores that need no threshold, each with its interval over images.

    The first four are of pixels. The score of an image is the mean of its pixels' scores; an image is positive where
    its truth is not empty.

    Attributes:
        average_precision: nan where the truth is empty everywhere.
        auroc: nan also where it is nowhere empty.
        calibration_error: expected, see `eval.metrics.levels.calibration_error_of`.
        brier: mean squared difference of score and truth.
        image_auroc, image_average_precision: of images; nan as for pixels.
    """

    average_precision: Interval
    auroc: Interval
    calibration_error: Interval
    brier: Interval
    image_auroc: Interval
    image_average_precision: Interval


@dataclass(frozen=True)
class Counted:
    """What was counted of one image.

    Attributes:
        counts: true positives, false positives and false negatives at the thresholds in ascending order, int64 [T, 3].
        pixels: that count.
        score: mean of their scores; nan where no pixel counts.
    """

    counts: Counts
    pixels: int
    score: float


class StreamedEvaluation:
    """The figures of `eval.evaluate.evaluate` for images that are added one at a time and may differ in size.

    The baseline of random regions also needs the regions themselves: it keeps those of a random sample of the images,
    see `eval.baseline_sample`.

    Args:
        thresholds: at which pixels are counted, at most 255; one of them is chosen when all images are in.
        baseline_pixels: of the sample for the baseline; at least one image is kept.
        rows: images up to which the counts of each are kept.
        seed: of that sample, the bootstrap and the random regions.
    """

    def __init__(
        self,
        thresholds: Sequence[float] = CANDIDATES,
        *,
        baseline_pixels: int = BASELINE_PIXELS,
        rows: int = ROWS,
        seed: int = 0,
    ) -> None:
        assert 0 < len(thresholds) <= MOST_THRESHOLDS
        self.thresholds = tuple(thresholds)
        self.seed = seed
        self.pixels = self.ignored_pixels = 0
        self._sorted = sorted(self.thresholds)
        self._counts = ImageCounts(len(self._sorted), rows=rows, seed=seed)
        self._scores, self._image_scores = ScoreSums(seed=seed), ScoreSums(seed=seed)
        self._sample = BaselineSample(baseline_pixels, seed)
        self._blind = BlindBaselines(rows=rows, seed=seed)
        self._objects = ObjectSample(len(self._sorted), seed=seed)
        self._pairs = ScorePairs(seed=seed)

    @property
    def images(self) -> int:
        """How many were added."""
        return self._counts.images

    @property
    def baseline_images(self) -> int:
        """How many of them the baseline is drawn from."""
        return len(self._sample)

    def add(
        self,
        number: int,
        mask: Mask,
        scores: NDArray[np.floating],
        *,
        where: str,
        objects: NDArray[np.uint8] | None = None,
        artifact_score: float | None = None,
    ) -> Counted:
        """Counts one image.

        Args:
            number: its place in the set, which the intervals depend on; unique, whichever worker adds it.
            mask: the truth.
            scores: 0 to 1, [H, W].
            where: the image, for messages.
            objects: uint8 [H, W], the objects from 1 on; None where they are not known.
            artifact_score: by annotators; None where there is none.

        Raises:
            EvaluationError: scores of another shape, or that are not numbers from 0 to 1.
        """
        check_scores(mask.inside.shape, scores, where=where)
        counted = np.ones(mask.inside.shape, np.bool_) if mask.ignored is None else ~mask.ignored
        truth = mask.inside & counted
        levels = reached(scores, self._sorted)
        table = counts_at_thresholds(reached_histogram(levels, truth, counted, len(self._sorted)))
        pixels = int(np.count_nonzero(counted))
        self._counts.add(number, table, pixels)
        self._scores.add_histogram(number, histogram(truth[counted], scores[counted]))
        score = float("nan")
        if pixels:
            score = float(scores[counted].mean(dtype=np.float64))
            self._image_scores.add(number, truth.any(keepdims=True).ravel(), np.array([score]), where=where)
            if artifact_score is not None:
                self._pairs.add(number, score, artifact_score)
        self._sample.add(number, Kept(levels, truth, counted), truth.size)
        self._blind.add(number, truth, counted, objects)
        if objects is not None:
            self._objects.add(number, objects, truth, counted, levels, scores)
        self.pixels += counted.size
        self.ignored_pixels += counted.size - pixels
        return Counted(table, pixels, score)

    def merge(self, other: StreamedEvaluation) -> None:
        """Add another worker's images of the same set: the figures are those of all images added to one.

        Raises:
            EvaluationError: other thresholds, another seed, or an image that both have.
        """
        if (self.thresholds, self.seed) != (other.thresholds, other.seed):
            raise EvaluationError("only evaluations of the same thresholds and seed can be merged")
        self._counts.merge(other._counts)
        self._scores.merge(other._scores)
        self._image_scores.merge(other._image_scores)
        self._sample.merge(other._sample)
        self._blind.merge(other._blind)
        self._objects.merge(other._objects)
        self._pairs.merge(other._pairs)
        self.pixels += other.pixels
        self.ignored_pixels += other.ignored_pixels

    @property
    def score_table(self) -> NDArray[np.int64]:
        """How many clean (row 0) and artifact (row 1) pixels have each level of score, see `eval.metrics.levels`."""
        return self._scores.table

    @property
    def score_pairs(self) -> list[tuple[float, float]]:
        """Predicted and human score of images that have both."""
        return self._pairs.pairs

    @property
    def object_images(self) -> tuple[int, int]:
        """Images with labels of their objects, and of how many of them the objects are kept."""
        return self._objects.images, self._objects.kept_images

    def best_threshold(self) -> float:
        """The threshold with the largest pooled IoU_fg, the first of equals. Only for a validation split."""
        pooled = iou_of(self._counts.totals[:, :3])
        return max(self.thresholds, key=lambda threshold: pooled[self._sorted.index(threshold)])

    def evaluation(self, threshold: float) -> Evaluation:
        """All measures at one of the thresholds.

        Raises:
            EvaluationError: no image was added.
        """
        self._check()
        average_precision = self._scores.value(average_precision_of)
        resample = self._counts.resample(self._sorted.index(threshold))
        return evaluation_of(resample, threshold, average_precision, self.images)

    def threshold_free(self) -> ThresholdFree:
        """The measures that need no threshold.

        Raises:
            EvaluationError: no image was added.
        """
        self._check()
        pixels, images = self._scores, self._image_scores
        return ThresholdFree(
            average_precision=pixels.average_precision(),
            auroc=pixels.auroc(),
            calibration_error=pixels.calibration_error(),
            brier=pixels.brier(),
            image_auroc=images.auroc(),
            image_average_precision=images.average_precision(),
        )

    def random_iou(self, threshold: float) -> Interval:
        """`eval.evaluate.random_iou` of the sample; images exchange their regions with others of their size."""
        return pooled_random_iou(self._sample.regions(self._sorted.index(threshold)), seed=self.seed)

    def objects(self, threshold: float) -> ObjectFigures | None:
        """Broken objects against intact ones; None where no image has labels of its objects."""
        return self._objects.figures(self._sorted.index(threshold))

    def human_scores(self) -> HumanScores | None:
        """Image scores against those of annotators; None where no image has one."""
        return self._pairs.figures()

    def blind(self) -> dict[str, BlindFigures]:
        """What blind predictions are worth on the same images, by name; see `eval.blind`.

        Raises:
            EvaluationError: no image was added.
        """
        self._check()
        return self._blind.figures()

    def _check(self) -> None:
        if not self.images:
            raise EvaluationError("there are no images to evaluate")


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
