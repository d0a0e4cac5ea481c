"""Images with their true masks, from WebDataset tars: one at a time, or read whole into arrays."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import IO

import numpy as np
from numpy.typing import NDArray

from actors.errors import EvaluationError, Reject
from actors.images import decode
from actors.masks import Mask, MaskReading, decode_mask
from factory.output.shards.tar_samples import grouped, split_name
from factory.sources.listing import Wanted, extension_reason, find
from factory.sources.tar_members import Member, members
from factory.store.remote import LARGEST_FILE, open_store

IMAGE, MASK, CAPTION = "image.png", "mask.png", "json"
IGNORED = 255
"""The class number that training leaves out, as transformers' segmentation models do."""

_TARS = Wanted("tars", lambda name: None if name.lower().endswith(".tar") else extension_reason(name))


@dataclass(frozen=True)
class Labelled:
    """Images of one size with the truth about them, in the order of their tars.

    Attributes:
        keys: of the samples; unique within a tar.
        captions: empty where a sample has none.
        images: uint8 [N, H, W, 3], RGB.
        masks: bool [N, H, W], true where an artifact is; all false where the set is unlabelled.
        ignored: bool [N, H, W], true where nothing is known, and never where `masks` is; None if no pixel is.
    """

    keys: list[str]
    captions: list[str]
    images: NDArray[np.uint8]
    masks: NDArray[np.bool_]
    ignored: NDArray[np.bool_] | None = None

    @property
    def labels(self) -> NDArray[np.uint8]:
        """uint8 [N, H, W] for training: 1 for an artifact, 0 for none, 255 where a pixel is ignored."""
        labels = self.masks.astype(np.uint8)
        if self.ignored is not None:
            labels[self.ignored] = IGNORED
        return labels


@dataclass(frozen=True)
class LabelledSample:
    """An image with the truth about it.

    Attributes:
        where: tar and key, for messages.
        key: unique within its tar.
        caption: empty where it has none.
        image: uint8 [H, W, 3], RGB.
        mask: of the image's size; empty where the set is unlabelled.
    """

    where: str
    key: str
    caption: str
    image: NDArray[np.uint8]
    mask: Mask


def stream_labelled(
    urls: Sequence[str], *, unlabelled: bool = False, reading: MaskReading | None = None
) -> Iterator[LabelledSample]:
    """Reads samples one at a time, in the order of `read_labelled`; their sizes may differ.

    Args:
        urls, unlabelled, reading: see `read_labelled`.

    Raises:
        EvaluationError, SourceError: see `read_labelled`; each when its sample or tar is reached.
    """
    found = False
    for where, key, files in _samples(urls):
        found = True
        image, mask = _image_and_mask(files, where, unlabelled, reading or MaskReading())
        yield LabelledSample(where, key, caption_of(files.get(CAPTION), where), image, mask)
    if not found:
        raise EvaluationError(f"{', '.join(urls) or 'no URL'}: no sample with {IMAGE} was found")


def samples_of(labelled: Labelled, name: str) -> Iterator[LabelledSample]:
    """The samples of a set that is in memory, as `stream_labelled` gives them; `name` is for messages."""
    for number, (key, caption) in enumerate(zip(labelled.keys, labelled.captions, strict=True)):
        ignored = None if labelled.ignored is None else labelled.ignored[number]
        mask = Mask(labelled.masks[number], ignored)
        yield LabelledSample(f"{name}, {key}", key, caption, labelled.images[number], mask)


def read_labelled(
    urls: Sequence[str], *, unlabelled: bool = False, reading: MaskReading | None = None
) -> Labelled:
    """Reads all samples with an `image.png`, a `mask.png` and, optionally, a `json` with a `caption`.

    Nothing is unpacked. Names, sizes and images are untrusted and are checked as the factory's sources are.

    Args:
        urls: fsspec URLs or paths of tars, folders or globs; brace ranges are written out.
        unlabelled: masks may be missing; they are then empty.
        reading: how the masks are to be read.

    Raises:
        EvaluationError: a sample without image or mask, or with one that cannot be read; a mask of another size
            than its image; images of unequal size; no samples. It names tar and key.
        SourceError: no tar was found, or one is damaged.
    """
    samples: list[LabelledSample] = []
    for sample in stream_labelled(urls, unlabelled=unlabelled, reading=reading):
        if samples and sample.image.shape != samples[0].image.shape:
            raise EvaluationError(
                f"{sample.where}: the image is {_size(sample.image)} pixels, those before it "
                f"{_size(samples[0].image)}; images of one size are wanted"
            )
        samples.append(sample)
    return Labelled(
        [sample.key for sample in samples],
        [sample.caption for sample in samples],
        np.stack([sample.image for sample in samples]),
        np.stack([sample.mask.inside for sample in samples]),
        _ignored([sample.mask for sample in samples]),
    )


def _ignored(masks: Sequence[Mask]) -> NDArray[np.bool_] | None:
    if all(mask.ignored is None for mask in masks):
        return None
    return np.stack([np.zeros_like(mask.inside) if mask.ignored is None else mask.ignored for mask in masks])


def _samples(urls: Sequence[str]) -> Iterator[tuple[str, str, dict[str, bytes]]]:
    """Where it is (for messages), key, and files by extension, of every sample with an image or a mask."""
    for tar in find(urls, _TARS, Counter()):
        files, path = open_store(tar.url)
        with files.open(path, "rb") as stream:
            every = list(members(stream, tar.url, Counter()))
            named = ((*name, member) for member in every if (name := split_name(member.name)))
            for key, parts in grouped(named, partial(_refuse, tar.url)).items():
                if IMAGE in parts or MASK in parts:
                    where = f"{tar.url}, {key}"
                    yield where, key, {name: _read(stream, parts[name], where) for name in _wanted(parts)}


def _refuse(url: str, reason: str, key: str, extension: str) -> None:
    raise EvaluationError(f"{url}, {key}: it has {extension} twice ({reason}); pack the tar again")


def _wanted(parts: Mapping[str, Member]) -> list[str]:
    return [name for name in (IMAGE, MASK, CAPTION) if name in parts]


def _read(stream: IO[bytes], member: Member, where: str) -> bytes:
    if member.size > LARGEST_FILE:
        raise EvaluationError(
            f"{where}: {member.name} has {member.size:,} bytes; at most {LARGEST_FILE:,} are read"
        )
    stream.seek(member.offset)
    return stream.read(member.size)


def _image_and_mask(
    files: Mapping[str, bytes], where: str, unlabelled: bool, reading: MaskReading
) -> tuple[NDArray[np.uint8], Mask]:
    if IMAGE not in files:
        raise EvaluationError(f"{where}: {IMAGE} is missing")
    if MASK not in files and not unlabelled:
        raise EvaluationError(f"{where}: {MASK} is missing; without it there is no truth to compare with")
    part = IMAGE
    try:
        decoded = decode(files[IMAGE])
        image = np.asarray(decoded.image)
        if MASK not in files:
            return image, Mask(np.zeros(image.shape[:2], np.bool_))
        part = MASK
        return image, decode_mask(files[MASK], reading, size=decoded.size, orientation=decoded.orientation)
    except Reject as why:
        raise EvaluationError(f"{where}: {part}: {why.detail}") from why


def caption_of(data: bytes | None, where: str) -> str:
    """The caption in a sample's JSON file, empty where it is missing.

    Raises:
        EvaluationError: the file is not JSON; the message begins with `where`.
    """
    if data is None:
        return ""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise EvaluationError(f"{where}: {CAPTION} is not JSON: {error}") from error
    caption = document.get("caption") if isinstance(document, dict) else None
    return caption if isinstance(caption, str) else ""


def _size(image: NDArray[np.uint8]) -> str:
    return f"{image.shape[1]} x {image.shape[0]}"
