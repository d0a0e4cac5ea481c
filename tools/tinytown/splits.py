"""Makes tinytown's splits: wild images of unseen captions, annotated, marked by three simulated people.

`python -m tools.tinytown.splits --out DIR` resumes where sampling was stopped and writes `DIR/splits`. The images are
sampled by `DIR/sd-0`, which never corrupts anything, so that their errors are another model's. Captions are those of
no render that was trained on, and of no other split.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import logging
import tarfile
from collections.abc import Iterator
from multiprocessing import Pool
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

import tinytown
from actors.images import encode_mask
from actors.models import fingerprint
from actors.seeding import seed_for
from eval.metrics import agreement
from eval.richhf.levels import binarise
from tinytown.annotator import annotate
from tinytown.people import PEOPLE, clicks, richhf_map
from tinytown.scene import parse
from tools.tinytown.data import quickstart_captions, trained_captions
from tools.tinytown.wild import SETTINGS, Images, Item, plan, sample, sampler

log = logging.getLogger(__name__)

GENERATOR = "sd-0"
UNLABELLED = "wild"

Masks = NDArray[np.bool_]
Manifest = dict[str, Any]


def mark_all(items: list[Item], images: Images, processes: int = 2) -> Masks:
    """What three people mark of every image, bool [N, 3, 64, 64]; nothing in the unlabelled split."""
    marks = np.zeros((len(items), len(PEOPLE), *images.shape[1:3]), bool)
    labelled = [row for row, item in enumerate(items) if item.split != UNLABELLED]
    with Pool(processes) as pool:
        tasks = ((items[row], images[row]) for row in labelled)
        for done, marked in enumerate(pool.imap(_marks, tasks, chunksize=10), start=1):
            marks[labelled[done - 1]] = marked
            if done % 100 == 0:
                log.info("%d of %d images annotated", done, len(labelled))
    return marks


def write_splits(
    out: Path, items: list[Item], images: Images, marks: Masks, generator: str, annotator: str
) -> Manifest:
    """Writes a folder with a tar for every split, and last `out/manifest.json`, which it returns.

    Args:
        items, images, marks: of all splits; uint8 [N, 64, 64, 3] and bool [N, 3, 64, 64].
        generator: fingerprint of the weights that sampled the images.
        annotator: digest of the code that marked them.
    """
    splits: dict[str, dict[str, object]] = {}
    for split in dict.fromkeys(item.split for item in items):
        rows = [row for row, item in enumerate(items) if item.split == split]
        tar = tar_bytes([items[row] for row in rows], images[rows], marks[rows], generator)
        folder = out / split
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "000000.tar").write_bytes(tar)
        (folder / "VERSION.txt").write_text(f"{tinytown.ASSETS_VERSION}\n")
        splits[split] = {
            "items": len(rows),
            "bytes": len(tar),
            "sha256": hashlib.sha256(tar).hexdigest(),
        }
        if split != UNLABELLED:
            areas = np.array([_mask(richhf_map(marks[row])).mean() for row in rows])
            splits[split] |= {
                "median_artifact_area": round(float(np.median(areas)), 4),
                "agreement": round(agreement(marks[rows]), 4),
                "without_artifact": int((areas == 0).sum()),
            }
    manifest: Manifest = {
        "assets_version": tinytown.ASSETS_VERSION,
        "generator": generator,
        "settings": SETTINGS,
        "people": PEOPLE,
        "annotator": annotator,
        "splits": splits,
    }
    (out / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n")
    return manifest


def tar_bytes(items: list[Item], images: Images, marks: Masks, generator: str) -> bytes:
    """A WebDataset tar with normalised headers; samples of the split `wild` have no labels."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for item, image, marked in zip(items, images, marks, strict=True):
            for extension, data in _members(item, image, richhf_map(marked), generator):
                header = tarfile.TarInfo(f"{item.key}.{extension}")
                header.size = len(data)
                tar.addfile(header, io.BytesIO(data))
    return buffer.getvalue()


def table(manifest: Manifest) -> str:
    """The figures of a manifest for people to read."""
    lines = [f"{'split':<12}{'items':>6}{'MB':>7}{'median area':>13}{'agreement':>11}{'no artifact':>13}"]
    for split, row in manifest["splits"].items():
        line = f"{split:<12}{row['items']:>6}{row['bytes'] / 1e6:>7.2f}"
        if split != UNLABELLED:
            line += (
                f"{row['median_artifact_area']:>13.1%}{row['agreement']:>11.2f}{row['without_artifact']:>13}"
            )
        lines.append(line)
    return "\n".join(lines)


def annotator_digest() -> str:
    """Digest of tinytown's sources, which decide what is an artifact."""
    total = hashlib.sha256()
    for path in sorted(Path(tinytown.__file__).parent.glob("*.py")):
        total.update(f"{path.name} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return total.hexdigest()[:16]


def _marks(task: tuple[Item, Images]) -> Masks:
    item, image = task
    return clicks(annotate(image, parse(item.caption)), seed_for(0, item.key, "people"))


def _members(item: Item, image: Images, heat: Images, generator: str) -> Iterator[tuple[str, bytes]]:
    yield "image.png", _png(image)
    if item.split != UNLABELLED:
        yield "mask.png", encode_mask(_mask(heat))
        yield "map.png", _png(heat)
    about = {
        "key": item.key,
        "caption": item.caption,
        "seed": item.seed,
        "assets_version": tinytown.ASSETS_VERSION,
        "generator": generator,
    }
    yield "json", json.dumps(about, sort_keys=True).encode()


def _mask(heat: Images) -> Masks:
    return binarise(heat, people=len(PEOPLE))


def _png(pixels: Images) -> bytes:
    """As small as Pillow makes it: these files are shipped."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=9)
    return buffer.getvalue()


def main() -> None:
    """Makes the splits of a work folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="work folder: holds data/ and sd-0/")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(arguments.threads)
    out: Path = arguments.out
    items = plan(trained_captions(out) | quickstart_captions())
    # Now, while the sources on disk are those that were imported.
    annotator = annotator_digest()
    generator = fingerprint(str(out / GENERATOR))
    images = sample(out, items, generator, lambda: sampler(out / GENERATOR))
    marks = mark_all(items, images)
    manifest = write_splits(out / "splits", items, images, marks, generator, annotator)
    print(table(manifest))


if __name__ == "__main__":
    main()
