"""Decodes samples into arrays to learn from. Images and masks come from outside, and are decoded with limits."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from actors.errors import BadSample, Reject
from actors.images import decode as decode_image
from actors.masks import Mask, MaskReading, decode_mask
from eval.labelled import IGNORED
from train.data.labels import MAPS, Label
from train.data.reading import Encoded

__all__ = ["IGNORED", "Label", "Sample", "decode"]


@dataclass(frozen=True)
class Sample:
    """A sample to learn from.

    Attributes:
        key: unique in its data set.
        image: uint8 [H, W, 3], RGB, upright.
        label: uint8 [H, W]: 1 for an artifact, 0 for none, `IGNORED` where nothing is known.
    """

    key: str
    image: NDArray[np.uint8]
    label: NDArray[np.uint8]


def decode(encoded: Encoded, label: Label, *, reading: MaskReading | None = None) -> Sample:
    """Decode a sample.

    Args:
        encoded: as it was read.
        label: what the label is made of.
        reading: how the masks of foreign tars are to be read; None for the usual way, which fits our own shards.

    Raises:
        BadSample: nothing can be learned from it. The message names tar, key and file. Its `reason` is
            `missing_image`, `missing_mask`, `missing_changed` or `missing_judged`; else that of the reject by
            `actors.images.decode` or `actors.masks.decode_mask`, such as `damaged`, `mask_size` or `bad_mask`, with
            `changed_` or `judged_` before it where that map is at fault.
    """
    if not encoded.image:
        raise BadSample("missing_image", f"{encoded.where}: the sample has no image, or an empty one")
    try:
        decoded = decode_image(encoded.image)
    except Reject as why:
        raise BadSample(why.reason, f"{encoded.where}: image: {why.detail}") from why
    image = np.asarray(decoded.image)
    maps = []
    for part in MAPS[label]:
        if part not in encoded.label:
            raise BadSample(
                f"missing_{part}",
                f"{encoded.where}: the sample has no {part}, and the label of its data set is {label}",
            )
        try:
            mask = decode_mask(
                encoded.label[part],
                reading or MaskReading(),
                size=decoded.size,
                orientation=decoded.orientation,
            )
        except Reject as why:
            reason = why.reason if part == "mask" else f"{part}_{why.reason.removeprefix('mask_')}"
            raise BadSample(reason, f"{encoded.where}: {part}: {why.detail}") from why
        maps.append(_levels(mask))
    clean = np.zeros(image.shape[:2], np.uint8)
    return Sample(encoded.key, image, reduce(_both, maps) if maps else clean)


def _levels(mask: Mask) -> NDArray[np.uint8]:
    levels = mask.inside.astype(np.uint8)
    if mask.ignored is not None:
        levels[mask.ignored] = IGNORED
    return levels


def _both(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """1 where both are, 0 where either is known to be 0, and else unknown."""
    unknown = (one == IGNORED) | (other == IGNORED)
    zero = (one == 0) | (other == 0)
    return np.where(zero, 0, np.where(unknown, IGNORED, 1)).astype(np.uint8)
