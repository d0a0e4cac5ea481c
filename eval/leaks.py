"""Which samples of a training are in a test set, too: equal or similar images, confirmed by pixels, and equal captions.

Works on arrays of hashes; images are read only to confirm a candidate.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from actors.perceptual_hash import perceptual_hash
from eval.same_image import WHOLE, Box, crops, same_image
from factory.dedup.duplicates import Hashes, Places, duplicates_between, pairs_between

TEST_CROPS = crops(0.04, 0.08)
"""Crops of a test image whose hashes are compared, so that an image that was cropped from it is a candidate."""

NEARNESS = 10
"""Bits of 64 in which the hashes of a candidate may differ."""

MOST_CANDIDATES = 16
"""Test images whose pixels are compared with one image, the nearest ones."""

ReadImage = Callable[[int], Image.Image]

SAME_BYTES, SAME_IMAGE, SAME_CAPTION = "same bytes", "same image", "same caption"


@dataclass(frozen=True)
class Looks:
    """What is compared of N samples; 8 bytes a sample for each hash.

    Attributes:
        contents: uint64 [N], of the files' bytes.
        looks: uint64 [N, V], perceptual hashes of the whole image first, then of crops.
        readable: bool [N]; where not, the image has no hashes and is not compared.
        captions: uint64 [N], 0 where a sample has none.
    """

    contents: Hashes
    looks: Hashes
    readable: NDArray[np.bool_]
    captions: Hashes


@dataclass(frozen=True)
class Leaks:
    """For each sample, the test sample that it repeats.

    Attributes:
        of: int64 [N], -1 for none.
        how: by place of the sample: `SAME_BYTES`, `SAME_IMAGE` or `SAME_CAPTION`.
    """

    of: Places
    how: dict[int, str]

    def __len__(self) -> int:
        return len(self.how)

    @property
    def counts(self) -> Counter[str]:
        """How many samples repeat a test sample, by how."""
        return Counter(self.how.values())


def content_hash(data: bytes) -> int:
    """64 bits of a file's sha256."""
    return int.from_bytes(hashlib.sha256(data).digest()[:8])


def caption_hash(caption: str) -> int:
    """64 bits of a caption's sha256, whatever its case and white space; 0 for an empty one."""
    words = " ".join(caption.casefold().split())
    return int.from_bytes(hashlib.sha256(words.encode("utf-8", "replace")).digest()[:8]) if words else 0


def look_hashes(image: Image.Image, boxes: tuple[Box, ...] = (WHOLE,)) -> list[int]:
    """Perceptual hashes of crops of an image.

    Args:
        image: RGB.
        boxes: the crops, as shares of the sides that are cut off.
    """
    width, height = image.size
    found = []
    for left, top, right, bottom in boxes:
        across = round(left * width), round((1 - right) * width)
        down = round(top * height), round((1 - bottom) * height)
        # At least a pixel remains of the smallest image: crops cut less than half of it.
        found.append(perceptual_hash(image.crop((across[0], down[0], across[1], down[1]))))
    return found


def find_leaks(
    data: Looks,
    test: Looks,
    read: ReadImage,
    read_test: ReadImage,
    *,
    captions: bool = True,
    nearness: int = NEARNESS,
) -> Leaks:
    """Find the samples of a data set whose image or caption a test set has.

    Args:
        data: hashes of the data set, of whole images.
        test: hashes of the test set, of the crops `TEST_CROPS`.
        read, read_test: give the image of a sample by its place.
        captions: also compare captions.
        nearness: see `NEARNESS`.
    """
    of = np.full(len(data.contents), -1)
    how: dict[int, str] = {}
    ours, theirs = np.flatnonzero(data.readable), np.flatnonzero(test.readable)
    exact = duplicates_between(
        data.contents[ours], data.looks[ours, 0], test.contents[theirs], test.looks[theirs, 0], None
    ).of
    _note(of, how, ours[exact >= 0], theirs[exact[exact >= 0]], SAME_BYTES)
    rest = ours[exact < 0]
    for row, others in _candidates(data.looks[rest, 0], test.looks[theirs], nearness):
        place = int(rest[row])
        image = read(place)
        for other in theirs[others]:
            if same_image(image, read_test(int(other))):
                _note(of, how, np.array([place]), np.array([other]), SAME_IMAGE)
                break
    if captions:
        rest = np.flatnonzero((of < 0) & (data.captions != 0))
        words = np.flatnonzero(test.captions)
        nothing = np.zeros(0, np.uint64)
        same = duplicates_between(
            data.captions[rest], np.resize(nothing, len(rest)), test.captions[words], nothing, None
        ).of
        _note(of, how, rest[same >= 0], words[same[same >= 0]], SAME_CAPTION)
    return Leaks(of, how)


def _note(of: Places, how: dict[int, str], rows: Places, others: Places, what: str) -> None:
    of[rows] = others
    how.update((int(row), what) for row in rows)


def _candidates(looks: Hashes, tests: Hashes, nearness: int) -> Iterator[tuple[int, Places]]:
    """Places of images that are near a test image, each with the places of the nearest test images.

    Args:
        looks: uint64 [N].
        tests: uint64 [M, V].
        nearness: bits in which they may differ.
    """
    if not len(looks) or not len(tests):
        return
    variants = tests.shape[1]
    pairs = np.zeros((0, 3), np.int64)
    for rows, others, bits in pairs_between(looks, tests.ravel(), nearness):
        found = np.stack([rows, bits, others // variants], axis=1)
        pairs = _nearest(np.concatenate([pairs, found]))
    starts = np.flatnonzero(np.diff(pairs[:, 0], prepend=-1))
    for first, last in pairwise([*starts, len(pairs)]):
        yield int(pairs[first, 0]), pairs[first:last, 2]


def _nearest(pairs: NDArray[np.int64]) -> NDArray[np.int64]:
    """Of pairs (image, bits, test image) the nearest of each image, at most `MOST_CANDIDATES`, each once; sorted."""
    pairs = pairs[np.lexsort((pairs[:, 1], pairs[:, 2], pairs[:, 0]))]
    again = np.all(pairs[1:, ::2] == pairs[:-1, ::2], axis=1)
    pairs = pairs[np.concatenate([[True], ~again])] if len(pairs) else pairs
    pairs = pairs[np.lexsort((pairs[:, 2], pairs[:, 1], pairs[:, 0]))]
    starts = np.flatnonzero(np.diff(pairs[:, 0], prepend=-1))
    sizes = np.diff(np.append(starts, len(pairs)))
    return pairs[np.arange(len(pairs)) - np.repeat(starts, sizes) < MOST_CANDIDATES]
