"""Scores of a shard's images, a micro-batch at a time: no more pixels are in memory than one network call takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager

import numpy as np
from numpy.typing import NDArray

from actors.batch import Sample
from actors.diffusion.memory import memory_errors_explained
from actors.finite import check_model, control_image, not_finite
from actors.images import read_image
from actors.stage_names import StageName

Scores = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""Scores float32 [N, H, W] of images uint8 [N, H, W, 3], for N up to the batch size."""


def scored(
    samples: Sequence[Sample],
    scores: Scores,
    *,
    batch_size: int,
    stage: StageName,
    network: str,
    setting: str = "regions.batch_size",
) -> Iterator[tuple[Sample, NDArray[np.float32]]]:
    """Pairs of a sample and its scores [H, W], in order; a sample whose scores are not finite is rejected instead.

    Args:
        samples: with `image`, none of them rejected; equal sizes in a batch.
        scores: see `Scores`.
        batch_size: images that are decoded and scored together.
        stage: that rejects.
        network: its name in messages, `segmenter` or `detector`.
        setting: of the recipe, which bounds the batch.

    Raises:
        ModelError: the network gives no finite scores at all, see `actors.finite.check_model`; no memory for a batch.
    """
    for first in range(0, len(samples), batch_size):
        group = samples[first : first + batch_size]
        images = np.stack([_decoded(sample) for sample in group])
        with _memory(network, setting, batch_size, images):
            found = scores(images)
        del images
        for sample, score in zip(group, found, strict=True):
            if np.isfinite(score).all():
                yield sample, score
            else:
                sample.reject(stage, not_finite(f"the {network}'s scores"))
        del found

    def control() -> bool:
        image = control_image(*_decoded(samples[0]).shape[:2])[None]
        with _memory(network, setting, batch_size, image):
            return bool(np.isfinite(scores(image)).all())

    check_model(samples, control, f"the {network} overflows, or its weights are broken; take other weights")


def _decoded(sample: Sample) -> NDArray[np.uint8]:
    assert sample.image is not None, sample.key
    return read_image(sample.image)


def _memory(
    network: str, setting: str, batch_size: int, images: NDArray[np.uint8]
) -> AbstractContextManager[None]:
    height, width = images.shape[1:3]
    return memory_errors_explained(
        f"scoring images ({network})", setting=setting, rows=batch_size, size=(height, width)
    )
