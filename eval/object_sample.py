"""Objects of many images, broken and intact, with their marked area at every threshold; memory is bounded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eval.image_sample import ImageSample
from eval.metrics import Interval, Objects, object_auroc
from eval.metrics.objects import INTACT_SHARE, joined
from eval.metrics.sweep import Reached

OBJECTS = 1 << 15
"""Objects of which the marked pixels are kept, 8 bytes for a threshold. Of more, a random sample of images is kept."""

_UNDEFINED = Interval(float("nan"), float("nan"), float("nan"))


@dataclass(frozen=True)
class WrongMarks:
    """Where the wrongly marked pixels of images with labels of their objects are, in pixels.

    Attributes:
        clean_images: anywhere on images whose truth is empty.
        intact: on intact objects of images with an artifact.
        damaged: on all other objects, beside their artifact.
        background: outside of objects, on images with an artifact.
    """

    clean_images: int
    intact: int
    damaged: int
    background: int


@dataclass(frozen=True)
class ObjectFigures:
    """AUROC of broken objects against intact ones, with intervals over images; nan where one of the two is missing.

    An object is broken where more than `eval.metrics.objects.BROKEN_SHARE` of its pixels is truly an artifact, intact
    where at most `INTACT_SHARE` is, and otherwise neither.

    Attributes:
        images: with objects that the figures are computed from.
        broken: broken objects there.
        intact: intact objects of images whose truth is not empty.
        clean: objects of images whose truth is empty.
        within: broken against intact ones, by the share of their area that is marked at the threshold.
        against_clean: broken against those of clean images, by the same share.
        within_by_score, against_clean_by_score: by the mean score of their pixels, which needs no threshold.
        wrong: where the wrongly marked pixels are.
    """

    images: int
    broken: int
    intact: int
    clean: int
    within: Interval
    against_clean: Interval
    within_by_score: Interval
    against_clean_by_score: Interval
    wrong: WrongMarks


@dataclass(frozen=True)
class _Kept:
    """The objects of an image.

    Attributes:
        pixels, artifact: int64 [K], see `eval.metrics.objects.Objects`.
        marked: int32 [K, T], pixels whose score reaches each threshold.
        wrong: int32 [K, T], those of them that are no artifact.
        all_wrong: int64 [T], the same in the whole image.
        score: float64 [K].
        clean: whether the truth of the image is empty.
    """

    pixels: NDArray[np.int64]
    artifact: NDArray[np.int64]
    marked: NDArray[np.int32]
    wrong: NDArray[np.int32]
    all_wrong: NDArray[np.int64]
    score: NDArray[np.float64]
    clean: bool


class ObjectSample:
    """Objects of the images that are added, of a random sample of them where there are more than `most` objects.

    Args:
        thresholds: number of them.
        most: objects that are kept.
        seed: of the sample and the intervals.
    """

    def __init__(self, thresholds: int, *, most: int = OBJECTS, seed: int = 0) -> None:
        self.thresholds, self.seed = thresholds, seed
        self.images = 0
        self._sample: ImageSample[_Kept] = ImageSample(most, seed)

    @property
    def kept_images(self) -> int:
        """Images that the figures are computed from."""
        return len(self._sample)

    def add(
        self,
        number: int,
        labels: NDArray[np.uint8],
        truth: NDArray[np.bool_],
        counted: NDArray[np.bool_],
        levels: Reached,
        scores: NDArray[np.floating],
    ) -> None:
        """Add an image; an object without any pixel that counts is left out.

        Args:
            number: of the image, unique in the set.
            labels: [H, W], objects from 1 on.
            truth: bool [H, W], within `counted`.
            counted: bool [H, W], pixels that are not ignored.
            levels: of `eval.metrics.sweep.reached`, [H, W].
            scores: [H, W].
        """
        self.images += 1
        chosen = (labels > 0) & counted
        names, owner = np.unique(labels[chosen], return_inverse=True)
        size, intact = len(names), ~truth[chosen]
        pixels = np.bincount(owner, minlength=size)
        artifact = np.bincount(owner[~intact], minlength=size)
        everywhere = np.zeros(np.count_nonzero(counted & ~truth), np.intp)
        score = np.bincount(owner, scores[chosen].astype(np.float64), minlength=size) / np.maximum(pixels, 1)
        kept = _Kept(
            pixels=pixels,
            artifact=artifact,
            marked=self._marked(owner, levels[chosen], size).astype(np.int32),
            wrong=self._marked(owner[intact], levels[chosen][intact], size).astype(np.int32),
            all_wrong=self._marked(everywhere, levels[counted & ~truth], 1)[0],
            score=score,
            clean=not truth.any(),
        )
        self._sample.add(number, kept, max(1, size))

    def _marked(self, owner: NDArray[np.intp], levels: Reached, objects: int) -> NDArray[np.int64]:
        """How many pixels of each object reach each threshold, [K, T]."""
        steps = self.thresholds + 1
        table = np.bincount(owner * steps + levels, minlength=objects * steps).reshape(objects, steps)
        return table[:, ::-1].cumsum(axis=1)[:, ::-1][:, 1:]

    def merge(self, other: ObjectSample) -> None:
        """Add another worker's images of the same set."""
        self.images += other.images
        self._sample.merge(other._sample)

    def figures(self, place: int) -> ObjectFigures | None:
        """The figures at a threshold, by its place among the ascending ones; None without any object."""
        sample = self._sample
        kept = [(number, sample[number]) for number in sample.numbers if len(sample[number].pixels)]
        if not kept:
            return None
        every = joined([_objects(number, one, place) for number, one in kept])
        clean = np.repeat([one.clean for _, one in kept], [len(one.pixels) for _, one in kept])
        broken = every.of(every.broken())
        intact, of_clean = every.of(every.intact() & ~clean), every.of(clean)
        return ObjectFigures(
            images=len(kept),
            broken=len(broken),
            intact=len(intact),
            clean=len(of_clean),
            within=self._auroc(broken, intact),
            against_clean=self._auroc(broken, of_clean),
            within_by_score=self._auroc(broken, intact, by_area=False),
            against_clean_by_score=self._auroc(broken, of_clean, by_area=False),
            wrong=_wrong_marks(sample.items, place),
        )

    def _auroc(self, broken: Objects, others: Objects, *, by_area: bool = True) -> Interval:
        if not len(broken) or not len(others):
            return _UNDEFINED
        return object_auroc(broken, others, by_area=by_area, seed=self.seed)


def _wrong_marks(images: Sequence[_Kept], place: int) -> WrongMarks:
    clean = sum(int(one.all_wrong[place]) for one in images if one.clean)
    intact = damaged = everywhere = 0
    for one in images:
        if not one.clean:
            is_damaged = one.artifact / one.pixels > INTACT_SHARE
            damaged += int(one.wrong[is_damaged, place].sum())
            intact += int(one.wrong[~is_damaged, place].sum())
            everywhere += int(one.all_wrong[place])
    return WrongMarks(clean, intact, damaged, everywhere - intact - damaged)


def _objects(number: int, kept: _Kept, place: int) -> Objects:
    images = np.full(len(kept.pixels), number, np.int64)
    return Objects(images, kept.pixels, kept.artifact, kept.marked[:, place].astype(np.int64), kept.score)
