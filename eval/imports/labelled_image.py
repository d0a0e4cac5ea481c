"""A sample of an image and a mask: decoded with limits, cropped alike, encoded, with counts for the card."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import numpy as np
import pyarrow as pa
from PIL import Image

from actors.errors import Reject
from actors.images import IGNORED_LEVEL, Decoded, decode, encode_image, encode_mask, fit
from actors.masks import Mask
from eval.imports.labelled_set import IMAGE, MASK, ImportedSample
from factory.output.shards.images import LARGEST_SIDE

SIZE_DESCRIPTION = (
    "side of the centred square that image and mask are cropped and resized to; null keeps the image's"
)
COLUMNS = {"mask_area": "float64", "ignored_area": "float64"}
"""Shares of the pixels that are marked, and about which nothing is known."""

CONTENTS = {
    IMAGE: "the image",
    MASK: f"where an artifact is: 1 bit, white is inside; or 8 bits, where {IGNORED_LEVEL} is ignored",
}


def decode_image(data: bytes, size: int | None) -> Decoded:
    """Decodes the image of a sample.

    Args:
        data: an encoded file, from outside.
        size: see `SIZE_DESCRIPTION`.

    Raises:
        Reject: `image_` with the reasons of `actors.images.decode`; `image_too_large` above `LARGEST_SIDE`.
    """
    try:
        decoded = decode(data, needed=size)
    except Reject as why:
        raise Reject(f"image_{why.reason}", f"the image: {why.detail}") from None
    image = decoded.image
    if size is None and max(image.size) > LARGEST_SIDE:
        raise Reject(
            "image_too_large",
            f"the image has {image.width} x {image.height} pixels; at most {LARGEST_SIDE} x {LARGEST_SIDE} are "
            "written: set a size",
        )
    return decoded


def fill(sample: ImportedSample, image: Image.Image, mask: Mask, size: int | None) -> None:
    """Adds both files and `COLUMNS` to a sample.

    Args:
        sample: to fill; its columns become fields of its JSON, too.
        image: upright; smaller than its mask where it was reduced while it was decoded.
        mask: of the upright image at its full size.
        size: see `SIZE_DESCRIPTION`.
    """
    levels = mask.inside.astype(np.uint8) * 255
    if mask.ignored is not None:
        levels[mask.ignored] = IGNORED_LEVEL
    if size is not None:
        image = fit(image, size)
        levels = np.asarray(fit(Image.fromarray(levels), size, smooth=False))
    inside, ignored = levels == 255, levels == IGNORED_LEVEL
    sample.columns |= {"mask_area": float(inside.mean()), "ignored_area": float(ignored.mean())}
    sample.files = {IMAGE: encode_image(image), MASK: encode_mask(inside, ignored)}
    sample.fields = dict(sample.columns)


def count_samples(tables: Iterable[pa.Table]) -> dict[str, int]:
    """Counts for the card, from the indexes of all shards: with a mask, without, and with ignored pixels."""
    count: Counter[str] = Counter()
    for table in tables:
        for row in table.select(["status", *COLUMNS]).to_pylist():
            count["images"] += 1
            if row["status"] == "accepted":
                count["samples"] += 1
                count["samples with a mask"] += row["mask_area"] > 0
                count["samples with an empty mask"] += row["mask_area"] == 0
                count["samples with ignored pixels"] += row["ignored_area"] > 0
    names = ("images", "samples", "samples with a mask", "samples with an empty mask")
    return {name: count[name] for name in (*names, "samples with ignored pixels")}
