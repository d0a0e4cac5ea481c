"""Whether what changed is an artifact: a model marks artifacts in the corrupted image and in its baseline.

A large change alone is no artifact: a yellow house that became white is another house. The judge's marks
before and after tell the two apart, for every connected region by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from actors.connected import connected
from actors.corruption.judge_config import JudgeConfig
from actors.errors import ModelError, Reject
from actors.finite import control_image

Scores = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""Probabilities of an artifact, float32 [N, H, W], of images uint8 [N, H, W, 3]; no row depends on another."""

LEGAL, BROKEN_BEFORE = "legal", "broken_before"


@dataclass(frozen=True)
class Opinion:
    """What a judge finds in one draw.

    Attributes:
        judged: bool [H, W], pixels that changed and that it marks, in and around its broken regions.
        regions: connected regions of the mask.
        broken: in how many of them the judge finds an artifact that was not there before.
        why: the reason why the draw is refused; None where it is accepted.
    """

    judged: NDArray[np.bool_]
    regions: int
    broken: int
    why: Reject | None


class Judge:
    """Marks artifacts in images, and judges draws by its marks.

    Args:
        config: what must be found.
        scores: of the model that the config names.
        threshold: probability from which a pixel is marked.
    """

    def __init__(self, config: JudgeConfig, scores: Scores, *, threshold: float) -> None:
        self.config = config
        self.scores = scores
        self.threshold = threshold

    def marks(self, images: Sequence[NDArray[np.uint8]]) -> list[NDArray[np.bool_] | None]:
        """The marked pixels of images of one size, bool [H, W] each; None for one whose scores are not finite.

        Args:
            images: uint8 [H, W, 3] each; any number of them.

        Raises:
            ModelError: the scores of all these images are not finite, and neither are those of a plain image.
        """
        if not images:
            return []
        found = self.scores(np.stack(images))
        finite = [bool(np.isfinite(score).all()) for score in found]
        if not any(finite) and not np.isfinite(self.scores(control_image(*images[0].shape[:2])[None])).all():
            raise ModelError(
                f"NaN or infinity for each of {len(images)} images: the judge {self.config.folder} overflows, or its "
                "weights are broken; take another one"
            )
        return [
            score >= self.threshold if whole else None for score, whole in zip(found, finite, strict=True)
        ]

    def opinion(
        self,
        mask: NDArray[np.bool_],
        changed: NDArray[np.bool_],
        *,
        before: NDArray[np.bool_],
        after: NDArray[np.bool_],
        margin: int,
    ) -> Opinion:
        """Judges one draw, every connected region of its mask by itself.

        A pixel belongs to the nearest region, up to `margin` pixels around it. With N from the config, a region is
        broken if at least N of its pixels changed, are marked after, and were not marked before. A judge that marks
        part of an object in clean images, too, so still counts what is new.

        Args:
            mask: bool [H, W], the regions; at least one pixel.
            changed: bool [H, W], see `actors.corruption.verifier.Verifier.measure`.
            before, after: bool [H, W], what the judge marks in the baseline and in the corrupted image.
            margin: pixels around a region that belong to it, along both axes.

        Returns:
            With `why`, the reason `legal` where fewer than N changed pixels of a region are marked; `broken_before`
            where N are marked in every region that is not broken, but too many of them were marked before.
        """
        least = self.config.least(*mask.shape)
        territory, count = territories(mask, margin)
        assert count, "no region"
        found = _counts(territory, changed & after, count)
        new = _counts(territory, changed & after & ~before, count)
        broken = new >= least
        judged = changed & after & np.concatenate([[False], broken])[territory]
        enough = broken.all() if self.config.every_region else broken.any()
        why = None if enough else _why(found[~broken], new[~broken], least)
        return Opinion(judged, count, int(broken.sum()), why)


def _why(found: NDArray[np.int64], new: NDArray[np.int64], least: int) -> Reject:
    """The reason of a draw whose other regions have marked pixels, of which some are new."""
    best = int(new.argmax())
    if (found < least).any():
        return Reject(
            LEGAL,
            f"the judge finds no artifact: it marks {new[best]} changed pixels of a region that it did not mark "
            f"before; at least {least} are required",
        )
    return Reject(
        BROKEN_BEFORE,
        f"the judge marks {found[best]} changed pixels of a region, and marked all but {new[best]} of them before; at "
        f"least {least} new ones are required",
    )


def territories(mask: NDArray[np.bool_], margin: int) -> tuple[NDArray[np.int32], int]:
    """Which connected region every pixel belongs to: the nearest one, up to `margin` pixels away along both axes.

    Args:
        mask: bool [H, W].
        margin: in pixels.

    Returns:
        int32 [H, W]: 0 for none, else the number of the region, as `actors.connected.connected` has it; and how many
        regions there are.
    """
    number, count = connected(mask)
    distance, nearest = ndimage.distance_transform_cdt(~mask, metric="chessboard", return_indices=True)
    territory: NDArray[np.int32] = np.where(distance <= margin, number[tuple(nearest)], 0)
    return territory, count


def _counts(territory: NDArray[np.int32], marked: NDArray[np.bool_], count: int) -> NDArray[np.int64]:
    """Marked pixels of every region, int64 [count]."""
    counted: NDArray[np.int64] = np.bincount(territory[marked], minlength=count + 1)[1:]
    return counted
