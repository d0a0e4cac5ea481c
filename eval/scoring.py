"""Where the scores of images come from: a checkpoint that scores them, or maps that another detector has written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from eval.labelled import LabelledSample

BATCH_SIZE = 8

Scores = NDArray[np.float32]
"""Of an image, 0 to 1, [H, W]."""


class Scorer(Protocol):
    """A source of scores in the process that opened it."""

    def __call__(self, batch: Sequence[LabelledSample]) -> Sequence[Scores | None]:
        """The scores of samples whose images have one size; None leaves an image out of the evaluation."""

    def notes(self) -> list[str]:
        """What is needed to interpret the figures, after the last image.

        Raises:
            EvaluationError: scores were missing that may not be.
        """


class ScoreSource(Protocol):
    """Gives scores in any process: it is sent to the workers of a cluster and opened there."""

    @property
    def name(self) -> str:
        """As the user passed it, for titles."""

    @property
    def batch_size(self) -> int:
        """Images that are scored together."""

    @property
    def any_image(self) -> bool:
        """Whether it scores images of any set, such as those of the validation split that choose a threshold."""

    def fingerprint(self) -> str:
        """What pins the scores, such as a digest of the weights."""

    def portable(self) -> ScoreSource:
        """The same source, independent of the working folder of a process."""

    def open(self) -> Scorer:
        """Loads what is needed, once per process."""


class KeyedScores(Protocol):
    """Score maps by the key of a sample, such as those that another detector has written."""

    def scores_for(self, key: str, size: tuple[int, int], where: str) -> Scores | None:
        """The map of an image of this height and width; `where` names the image in messages."""

    def check(self) -> None:
        """Raises EvaluationError if maps were missing that may not be."""

    def notes(self) -> list[str]:
        """What is needed to interpret the figures, after the last image."""


class ScoresByKey:
    """A scorer that looks scores up instead of computing them.

    Args:
        maps: of the images.
    """

    def __init__(self, maps: KeyedScores) -> None:
        self.maps = maps

    def __call__(self, batch: Sequence[LabelledSample]) -> list[Scores | None]:
        return [self.maps.scores_for(one.key, one.mask.inside.shape, one.where) for one in batch]

    def notes(self) -> list[str]:
        self.maps.check()
        return self.maps.notes()


@dataclass(frozen=True)
class Scoring:
    """How images are scored by a checkpoint.

    Attributes:
        device: `cpu` or `cuda`.
        batch_size: images, or tiles, in one step of the network.
        tile: side in pixels of the tiles in which larger images are scored; None scores them whole.
    """

    device: str = "cpu"
    batch_size: int = BATCH_SIZE
    tile: int | None = None


@dataclass(frozen=True)
class CheckpointScores:
    """A segmenter's checkpoint as a `ScoreSource`.

    Attributes:
        checkpoint: a folder, a hub id in the local cache, or a name such as `tinytown/regions-convnext`.
        scoring: device, batch size and tiles.
    """

    checkpoint: str
    scoring: Scoring = Scoring()

    @property
    def name(self) -> str:
        return self.checkpoint

    @property
    def batch_size(self) -> int:
        return self.scoring.batch_size

    @property
    def any_image(self) -> bool:
        return True

    def fingerprint(self) -> str:
        from actors.models import fingerprint

        return fingerprint(self.checkpoint)

    def portable(self) -> CheckpointScores:
        from actors.models import on_every_worker

        return replace(self, checkpoint=on_every_worker(self.checkpoint))

    def open(self) -> CheckpointScorer:
        """Loads the network.

        Raises:
            ArgumentError: tiles that are too small for it.
            ModelError: it cannot be loaded, or there is no GPU. While scoring: a batch that does not fit into memory.
        """
        return CheckpointScorer(self.checkpoint, self.scoring)


class CheckpointScorer:
    """A scorer that runs the network of a checkpoint; arguments and errors are those of `CheckpointScores`."""

    def __init__(self, checkpoint: str, scoring: Scoring) -> None:
        import torch

        from actors.arithmetic import fix_arithmetic
        from actors.device import device_for
        from actors.segmentation.predictor import Predictor
        from actors.segmentation.segmenter import Segmenter, smallest_side

        fix_arithmetic(torch.get_num_threads())
        device_for(scoring.device, remedy="or evaluate on the CPU: device cpu")
        segmenter = Segmenter(checkpoint, batch_size=scoring.batch_size, device=scoring.device)
        self.scoring = scoring
        self._predict = Predictor(
            segmenter,
            tile=scoring.tile,
            batch_size=scoring.batch_size,
            smallest=smallest_side(segmenter.net.config),
        )

    def __call__(self, batch: Sequence[LabelledSample]) -> list[Scores | None]:
        from actors.diffusion.memory import memory_errors_explained

        images, count = np.stack([sample.image for sample in batch]), self.scoring.batch_size
        height, width = images.shape[1:3]
        advice = f"set {'a smaller --batch-size' if count > 1 else '--tile, or a smaller one'}"
        with memory_errors_explained(
            f"scoring {count} images", size=(height, width), advice=advice, on_cpu=True
        ):
            return list(self._predict(images))

    def notes(self) -> list[str]:
        return []
