"""COCO files as tools write them, and the masks that they mean, drawn by slices and typed by hand."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from factory.output.shards.tar import samples

WIDTH, HEIGHT = 60, 40

Bools = NDArray[np.bool_]


def rectangle(
    left: int, top: int, right: int, bottom: int, *, size: tuple[int, int] = (WIDTH, HEIGHT)
) -> Bools:
    """bool [H, W], true from the first to before the second of each pair."""
    mask = np.zeros(size[::-1], np.bool_)
    mask[top:bottom, left:right] = True
    return mask


def corners(left: int, top: int, right: int, bottom: int) -> list[int]:
    """The polygon of a rectangle."""
    return [left, top, right, top, right, bottom, left, bottom]


def runs(mask: Bools) -> dict[str, Any]:
    """COCO's uncompressed encoding: lengths of runs down the columns, outside first."""
    counts, inside = [0], False
    for column in range(mask.shape[1]):
        for row in range(mask.shape[0]):
            if mask[row, column] != inside:
                inside = not inside
                counts.append(0)
            counts[-1] += 1
    return {"size": list(mask.shape), "counts": counts}


def write_image(
    path: Path, seed: int = 0, *, size: tuple[int, int] = (WIDTH, HEIGHT), **options: Any
) -> None:
    """An image of noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*size[::-1], 3), np.uint8)
    Image.fromarray(pixels).save(path, **options)


def annotation(number: int, image: int | str, segmentation: object, **more: object) -> dict[str, object]:
    """An annotation with the fields that all tools write."""
    box = [1.0, 2.0, 3.0, 4.0]
    known = {"id": number, "image_id": image, "category_id": 1, "area": 12.0, "bbox": box, "iscrowd": 0}
    return {**known, "segmentation": segmentation, **more}


def write_coco(
    path: Path,
    images: Sequence[Mapping[str, object]],
    annotations: Sequence[Mapping[str, object]],
    categories: Sequence[Mapping[str, object]] = ({"id": 1, "name": "artifact", "supercategory": ""},),
) -> Path:
    """A COCO file with the other keys that tools write, which nobody reads."""
    document = {
        "licenses": [{"name": "", "id": 0, "url": ""}],
        "info": {"contributor": "", "description": 'quotes " and ] } brackets [{', "year": ""},
        "categories": list(categories),
        "images": list(images),
        "annotations": list(annotations),
    }
    path.write_text(json.dumps(document))
    return path


def read_samples(out: Path) -> dict[str, dict[str, Any]]:
    """The files of every sample of an import by its `file_name`, or its key: images as arrays, JSON as a mapping."""
    found = {}
    for tar in sorted(out.glob("shards/*.tar")):
        with tar.open("rb") as stream:
            for key, members in samples(stream):
                about = json.loads(members["json"])
                images = {
                    name: np.asarray(Image.open(io.BytesIO(data)))
                    for name, data in members.items()
                    if name != "json"
                }
                found[about.get("file_name", key.rpartition("-")[0])] = {**images, "json": about}
    return found
