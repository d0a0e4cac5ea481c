"""Rendered scenes in memory, for the programs that train tinytown's weights."""

from __future__ import annotations

from dataclasses import dataclass
from multiprocessing import Pool
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tinytown.render import PARTS, render
from tinytown.scene import caption, sample_scene

HELD_OUT = 1_000_000_000
"""Seeds from here on are never trained on."""

_HARD = np.array([part.split(".")[0] in ("face", "hand") for part in PARTS])


@dataclass(frozen=True)
class Renders:
    """Scenes of consecutive seeds.

    Attributes:
        images: uint8 [N, 64, 64, 3], RGB.
        detail: uint8 [N, 64, 64]: 0 background, 1 an object, 2 a face or a hand.
        captions: N captions.
    """

    images: NDArray[np.uint8]
    detail: NDArray[np.uint8]
    captions: list[str]


def renders(first_seed: int, count: int, cache: Path | None = None, processes: int = 2) -> Renders:
    """Scenes of seeds `first_seed` .. `first_seed + count - 1`; kept in `cache` as npz where given."""
    path = cache / f"renders-{first_seed}-{count}.npz" if cache else None
    if path and path.exists():
        with np.load(path) as stored:
            return Renders(stored["images"], stored["detail"], [str(text) for text in stored["captions"]])
    with Pool(processes) as pool:
        rows = pool.map(_one, range(first_seed, first_seed + count), chunksize=256)
    result = Renders(
        np.stack([row[0] for row in rows]), np.stack([row[1] for row in rows]), [row[2] for row in rows]
    )
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, images=result.images, detail=result.detail, captions=np.array(result.captions))
    return result


def _one(seed: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8], str]:
    scene = sample_scene(seed)
    picture = render(scene)
    detail = (picture.parts > 0).astype(np.uint8) + _HARD[picture.parts].astype(np.uint8)
    return picture.image, detail, caption(scene)
