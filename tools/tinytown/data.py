"""Rendered scenes in memory, for the programs that train tinytown's weights."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from multiprocessing import Pool
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tinytown.render import PARTS, render
from tinytown.scene import caption, sample_scene

HELD_OUT = 1_000_000_000
"""Seeds from here on are never trained on."""

QUICKSTART = range(500_000, 502_000)
"""Seeds of the scenes that the quickstart draws its source from."""

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
    """Scenes of seeds `first_seed` .. `first_seed + count - 1`; cached in `cache` as npz where given."""
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


def trained_captions(assets: Path) -> set[str]:
    """Captions of all renders that were trained on, those of seeds from 0 on, as cached in `assets/data`.

    Raises:
        FileNotFoundError: nothing is cached, so what was trained on is not known.
    """
    paths = sorted((assets / "data").glob("renders-0-*.npz"))
    if not paths:
        raise FileNotFoundError(f"no renders-0-*.npz in {assets / 'data'}: train the autoencoder there first")
    captions: set[str] = set()
    for path in paths:
        with np.load(path) as stored:
            captions.update(str(text) for text in stored["captions"])
    return captions


def unseen(first_seed: int, count: int, taken: Collection[str]) -> list[tuple[int, str]]:
    """The first `count` scenes from `first_seed` on whose captions are new, as (seed, caption).

    Args:
        taken: captions to pass over, such as those that were trained on; no caption is given twice either.
    """
    rows: list[tuple[int, str]] = []
    known = set(taken)
    seed = first_seed
    while len(rows) < count:
        text = caption(sample_scene(seed))
        if text not in known:
            known.add(text)
            rows.append((seed, text))
        seed += 1
    return rows


def quickstart_captions() -> set[str]:
    """Captions of the scenes that the quickstart draws its source from."""
    return {caption(sample_scene(seed)) for seed in QUICKSTART}


def _one(seed: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8], str]:
    scene = sample_scene(seed)
    rendering = render(scene)
    detail = (rendering.parts > 0).astype(np.uint8) + _HARD[rendering.parts].astype(np.uint8)
    return rendering.image, detail, caption(scene)
