"""Makes tinytown's splits: wild images of unseen captions, annotated, marked by three simulated people.

`python -m tools.tinytown.splits --out DIR` resumes where sampling was stopped and writes `DIR/splits`. The images are
sampled by `DIR/sd-2`, which never corrupts anything, so that their errors are another model's. Captions are those of
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
from dataclasses import dataclass
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
from eval.metrics.objects import INTACT_SHARE
from eval.richhf.levels import binarise
from tinytown.annotator import annotate
from tinytown.people import PEOPLE, clicks, richhf_map
from tinytown.scene import parse
from tools.tinytown.data import quickstart_captions, trained_captions
from tools.tinytown.wild import SETTINGS, Images, Item, plan, sample, sampler

log = logging.getLogger(__name__)

GENERATOR = "sd-2"
UNLABELLED = "wild"
WITHOUT_MAPS = "labelled-2000"
"""A split for training alone: neither maps nor objects, for their bytes."""

Masks = NDArray[np.bool_]
Manifest = dict[str, Any]


@dataclass(frozen=True)
class Marks:
    """What is said of images.

    Attributes:
        people: bool [N, 3, 64, 64], what each of three people marks.
        objects: uint8 [N, 64, 64], 0 for the background, i + 1 where the annotator sees the caption's i-th object.
        stated: int64 [N], objects that the caption states.
    """

    people: Masks
    objects: Images
    stated: NDArray[np.int64]

    @property
    def masks(self) -> Masks:
        """Marked by two of three, bool [N, 64, 64]."""
        return np.stack([_mask(richhf_map(one)) for one in self.people])

    def of(self, rows: list[int]) -> Marks:
        """Those of some images."""
        return Marks(self.people[rows], self.objects[rows], self.stated[rows])


def mark_all(items: list[Item], images: Images, processes: int = 2) -> Marks:
    """What the annotator and three people say of every image; nothing in the unlabelled split."""
    size = images.shape[1:3]
    people = np.zeros((len(items), len(PEOPLE), *size), bool)
    objects, stated = np.zeros((len(items), *size), np.uint8), np.zeros(len(items), np.int64)
    labelled = [row for row, item in enumerate(items) if item.split != UNLABELLED]
    with Pool(processes) as pool:
        tasks = ((items[row], images[row]) for row in labelled)
        for done, (row, found) in enumerate(
            zip(labelled, pool.imap(_marks, tasks, chunksize=10), strict=True), start=1
        ):
            people[row], objects[row], stated[row] = found
            if done % 100 == 0:
                log.info("%d of %d images annotated", done, len(labelled))
    return Marks(people, objects, stated)


def figures(marks: Marks) -> dict[str, float | int]:
    """What the annotators' marks say of a split; the shares of objects are of those that the annotator found."""
    masks = marks.masks
    areas = masks.mean(axis=(1, 2))
    shares = [
        mask[objects == number].mean()
        for mask, objects in zip(masks, marks.objects, strict=True)
        for number in np.unique(objects[objects > 0])
    ]
    hidden, blind = marks.stated.sum() - len(shares), marks.objects > 0
    return {
        "median_artifact_area": round(float(np.median(areas)), 4),
        "mean_artifact_area": round(float(areas.mean()), 4),
        "agreement": round(agreement(marks.people), 4),
        "without_artifact": round(float((areas == 0).mean()), 4),
        "objects": len(shares),
        "intact_objects": round(float(np.mean(np.array(shares) <= INTACT_SHARE)), 4),
        "not_found": round(float(hidden / marks.stated.sum()), 4),
        "iou_fg_of_all_objects": round(float((blind & masks).sum() / (blind | masks).sum()), 4),
    }


def write_splits(
    out: Path, items: list[Item], images: Images, marks: Marks, generator: str, annotator: str
) -> Manifest:
    """Writes a folder with a tar for every split, and last `out/manifest.json`, which it returns.

    Args:
        items, images, marks: of all splits; images are uint8 [N, 64, 64, 3].
        generator: fingerprint of the weights that sampled the images.
        annotator: digest of the code that marked them.
    """
    splits: dict[str, dict[str, object]] = {}
    for split in dict.fromkeys(item.split for item in items):
        rows = [row for row, item in enumerate(items) if item.split == split]
        said = marks.of(rows)
        tar = tar_bytes([items[row] for row in rows], images[rows], said, generator)
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
            splits[split] |= figures(said)
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


def tar_bytes(items: list[Item], images: Images, marks: Marks, generator: str) -> bytes:
    """A WebDataset tar with normalised headers; samples of the split `wild` have no labels."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for item, image, people, objects in zip(items, images, marks.people, marks.objects, strict=True):
            for extension, data in _members(item, image, richhf_map(people), objects, generator):
                header = tarfile.TarInfo(f"{item.key}.{extension}")
                header.size = len(data)
                tar.addfile(header, io.BytesIO(data))
    return buffer.getvalue()


def table(manifest: Manifest) -> str:
    """The figures of a manifest for people to read."""
    heads = "median area", "agreement", "no artifact", "intact", "not found", "IoU of all objects"
    lines = [f"{'split':<15}{'items':>6}{'MB':>7}" + "".join(f"{head:>{len(head) + 2}}" for head in heads)]
    for split, row in manifest["splits"].items():
        line = f"{split:<15}{row['items']:>6}{row['bytes'] / 1e6:>7.2f}"
        if split != UNLABELLED:
            line += f"{row['median_artifact_area']:>13.1%}{row['agreement']:>11.2f}{row['without_artifact']:>13.1%}"
            line += (
                f"{row['intact_objects']:>8.1%}{row['not_found']:>11.1%}{row['iou_fg_of_all_objects']:>20.1%}"
            )
        lines.append(line)
    return "\n".join(lines)


def annotator_digest() -> str:
    """Digest of tinytown's sources, which decide what is an artifact."""
    total = hashlib.sha256()
    for path in sorted(Path(tinytown.__file__).parent.glob("*.py")):
        total.update(f"{path.name} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return total.hexdigest()[:16]


def _marks(task: tuple[Item, Images]) -> tuple[Masks, Images, int]:
    item, image = task
    scene = parse(item.caption)
    annotation = annotate(image, scene)
    return clicks(annotation, seed_for(0, item.key, "people")), annotation.objects, len(scene.things)


def _members(
    item: Item, image: Images, heat: Images, objects: Images, generator: str
) -> Iterator[tuple[str, bytes]]:
    yield "image.webp", _webp(image)
    if item.split != UNLABELLED:
        yield "mask.png", encode_mask(_mask(heat))
    if item.split not in (UNLABELLED, WITHOUT_MAPS):
        yield "map.png", _png(heat)
        yield "objects.png", _png(objects)
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


def _webp(pixels: Images) -> bytes:
    """Lossless, and a sixth smaller than as PNG: these files are shipped."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "WEBP", lossless=True, quality=100, method=5)
    return buffer.getvalue()


def _png(pixels: Images) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=9)
    return buffer.getvalue()


def main() -> None:
    """Makes the splits of a work folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="work folder: holds data/ and sd-2/")
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
