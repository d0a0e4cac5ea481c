"""The leak guard on the embedded world. `python -m benchmarks.leaks`.

Plants images of the validation split in a training set, each kind of change for every image, and prints how many are
found; then looks for leaks among all pairs of other training images and validation images, where any is a false alarm.
"""

from __future__ import annotations

import argparse
import io
import time
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.table import Table

from eval.leaks import TEST_CROPS, Leaks, Looks, caption_hash, find_leaks, look_hashes
from eval.same_image import WHOLE, Box
from eval.splits import open_split
from tools.tinytown.data import renders

RENDER_SEED = 500_000
"""From which the quickstart renders its 512 scenes."""
console = Console(width=110)

Change = Callable[[Image.Image, np.random.Generator], Image.Image]


def encoded(kind: str, quality: int) -> Change:
    """Encoding and decoding, with losses."""

    def change(image: Image.Image, rng: np.random.Generator) -> Image.Image:
        stream = io.BytesIO()
        image.save(stream, kind, quality=quality)
        return Image.open(io.BytesIO(stream.getvalue())).convert("RGB")

    return change


def resized(across: float, down: float, method: Image.Resampling) -> Change:
    """Another size."""

    def change(image: Image.Image, rng: np.random.Generator) -> Image.Image:
        return image.resize((round(across * image.width), round(down * image.height)), method)

    return change


def cropped(most: float) -> Change:
    """Up to a share of the side cut off at each of the four edges."""

    def change(image: Image.Image, rng: np.random.Generator) -> Image.Image:
        left, top, right, bottom = rng.integers(0, round(most * image.width) + 1, 4)
        return image.crop((left, top, image.width - right, image.height - bottom))

    return change


def both(first: Change, second: Change) -> Change:
    """One change after the other."""
    return lambda image, rng: second(first(image, rng), rng)


CHANGES: dict[str, Change] = {
    "exact": lambda image, rng: image,
    "JPEG, quality 75": encoded("JPEG", 75),
    "JPEG, quality 40": encoded("JPEG", 40),
    "WebP, quality 50": encoded("WEBP", 50),
    "half the size": resized(0.5, 0.5, Image.Resampling.LANCZOS),
    "1.5 times the size": resized(1.5, 1.5, Image.Resampling.BILINEAR),
    "another aspect": resized(1.1, 0.85, Image.Resampling.BICUBIC),
    "cropped, up to 5 % an edge": cropped(0.05),
    "cropped, up to 8 % an edge": cropped(0.08),
    "cropped and JPEG": both(cropped(0.05), encoded("JPEG", 75)),
    "resized, cropped and JPEG": both(
        resized(1.5, 1.5, Image.Resampling.BILINEAR), both(cropped(0.05), encoded("JPEG", 75))
    ),
}


def looks_of(
    images: Sequence[Image.Image], captions: Sequence[str], boxes: tuple[Box, ...] = (WHOLE,)
) -> Looks:
    """Hashes of images in memory; their bytes are never equal."""
    return Looks(
        np.arange(1 << 32, (1 << 32) + len(images), dtype=np.uint64) * np.uint64(len(boxes)),
        np.array([look_hashes(image, boxes) for image in images], np.uint64).reshape(-1, len(boxes)),
        np.ones(len(images), np.bool_),
        np.array([caption_hash(caption) for caption in captions], np.uint64),
    )


def as_images(arrays: NDArray[np.uint8]) -> list[Image.Image]:
    """RGB images of an array uint8 [N, H, W, 3]."""
    return [Image.fromarray(array) for array in arrays]


def found_in(
    images: Sequence[Image.Image], captions: Sequence[str], tests: Sequence[Image.Image], test_looks: Looks
) -> Leaks:
    """The images, or captions, that are in the test set."""
    data = looks_of(images, captions)
    return find_leaks(data, test_looks, images.__getitem__, tests.__getitem__)


def main() -> None:
    """Print the table."""
    arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    arguments.add_argument("--renders", type=int, default=512, help="clean renders among the other images")
    chosen = arguments.parse_args()
    validation = open_split("validation")
    tests = as_images(validation.images)
    test_looks = looks_of(tests, validation.captions, TEST_CROPS)
    rng = np.random.default_rng(0)
    table = Table("planted", "images", "found", "as the right one", "seconds")
    for name, change in CHANGES.items():
        began = time.perf_counter()
        leaks = found_in([change(image, rng) for image in tests], [""] * len(tests), tests, test_looks)
        right = int((leaks.of == np.arange(len(tests))).sum())
        seconds = time.perf_counter() - began
        table.add_row(
            name,
            f"{len(tests)}",
            f"{len(leaks) / len(tests):.1%}",
            f"{right / len(tests):.1%}",
            f"{seconds:.1f}",
        )
    parts = [cropped(0.05)(image, rng) for image in tests]
    leaks = found_in(tests, [""] * len(tests), parts, looks_of(parts, [""] * len(tests), TEST_CROPS))
    right = (leaks.of == np.arange(len(tests))).mean()
    table.add_row(
        "test image cropped, up to 5 %", f"{len(tests)}", f"{len(leaks) / len(tests):.1%}", f"{right:.1%}"
    )
    console.print(table)
    others = {name: open_split(name) for name in ("labelled", "labelled-2000", "wild")}
    sets = {name: (as_images(split.images), split.captions) for name, split in others.items()}
    clean = renders(RENDER_SEED, chosen.renders)
    sets["clean renders"] = (as_images(clean.images), [""] * chosen.renders)
    for name, (images, captions) in sets.items():
        began = time.perf_counter()
        leaks = found_in(images, captions, tests, test_looks)
        console.print(
            f"{name}: {len(leaks)} false alarms in {len(images):,} x {len(tests)} pairs ({dict(leaks.counts)}), "
            f"{time.perf_counter() - began:.1f} s"
        )


if __name__ == "__main__":
    main()
