"""Small labelled sets as tars: images with masks, objects and scores of annotators."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from actors.images import encode_image, encode_mask


def grey_png(levels: NDArray[np.uint8]) -> bytes:
    """An 8-bit grey PNG."""
    buffer = io.BytesIO()
    Image.fromarray(levels).save(buffer, "PNG")
    return buffer.getvalue()


def write_tar(path: Path, samples: dict[str, dict[str, bytes]]) -> str:
    """A tar of samples by key, each with its files by extension."""
    with tarfile.open(path, "w") as tar:
        for key, files in samples.items():
            for name, data in files.items():
                info = tarfile.TarInfo(f"{key}.{name}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    return str(path)


def random_sample(rng: np.random.Generator, *, clean: bool = False, side: int = 64) -> dict[str, bytes]:
    """Noise with two square objects, of which the first is broken unless the image is clean."""
    objects = np.zeros((side, side), np.uint8)
    objects[4:24, 4:24], objects[30:60, 30:50] = 1, 2
    image = rng.integers(0, 256, (side, side, 3), dtype=np.uint8)
    document = {"caption": "two squares <b>", "artifact_score": round(float(rng.random()), 3)}
    return {
        "image.png": encode_image(image),
        "mask.png": encode_mask((objects == 1) & (not clean)),
        "objects.png": grey_png(objects),
        "json": json.dumps(document).encode(),
    }
