"""Images with their true masks, from WebDataset tars: one at a time, or read whole into arrays."""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import IO

import numpy as np
from numpy.typing import NDArray

from actors.errors import EvaluationError, Reject
from actors.images import decode
from actors.masks import Mask, MaskReading, decode_mask
from eval.object_labels import decode_objects
from factory.output.shards.tar_samples import grouped, split_name
from factory.sources.listing import Wanted, extension_reason, find
from factory.sources.tar_members import Member, members
from factory.store.remote import LARGEST_FILE, open_store

IMAGES, MASK, OBJECTS, CAPTION = ("image.png", "image.webp"), "mask.png", "objects.png", "json"
IMAGE = " or ".join(IMAGES)
IGNORED = 255
"""The class number that training leaves out, as transformers' segmentation models do."""

_LARGEST_SCORE = 1e9

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
        objects: uint8 [N, H, W], the objects of an image from 1 on and 0 elsewhere; None unless all samples have them.
    """

    keys: list[str]
    captions: list[str]
    images: NDArray[np.uint8]
    masks: NDArray[np.bool_]
    ignored: NDArray[np.bool_] | None = None
    objects: NDArray[np.uint8] | None = None

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
        objects: uint8 [H, W], its objects from 1 on and 0 elsewhere; None where the sample has no `objects.png`.
        artifact_score: the score by annotators in its JSON file, higher for better images; None where it has none.
        digest: sha256 of the key and of the files that are read.
    """

    where: str
    key: str
    caption: str
    image: NDArray[np.uint8]
    mask: Mask
    objects: NDArray[np.uint8] | None = None
    artifact_score: float | None = None
    digest: bytes = b""


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
    for url in tars_of(urls):
        for _, sample in stream_tar(url, unlabelled=unlabelled, reading=reading):
            found = True
            yield sample
    if not found:
        raise EvaluationError(f"{', '.join(urls) or 'no URL'}: no sample with {IMAGE} was found")


def tars_of(urls: Sequence[str]) -> Iterator[str]:
    """The URLs of all tars, in their order.

    Raises:
        SourceError: see `read_labelled`.
    """
    return (tar.url for tar in find(urls, _TARS, Counter()))


def stream_tar(
    url: str,
    *,
    unlabelled: bool = False,
    reading: MaskReading | None = None,
    places: Collection[int] | None = None,
) -> Iterator[tuple[int, LabelledSample]]:
    """The samples of one tar, each with its place there, from 0 on.

    Args:
        url: one of `tars_of`.
        unlabelled, reading: see `read_labelled`.
        places: of the samples to read; None reads all.

    Raises:
        EvaluationError, SourceError: see `read_labelled`.
    """
    for place, key, files in _samples(url, places):
        where = f"{url}, {key}"
        image, mask, objects = _decoded(files, where, unlabelled, reading or MaskReading())
        document = _document(files.get(CAPTION), where)
        yield (
            place,
            LabelledSample(
                where, key, _caption(document), image, mask, objects, _score(document), _digest(key, files)
            ),
        )


def samples_of(labelled: Labelled, name: str) -> Iterator[LabelledSample]:
    """The samples of a set that is in memory, as `stream_labelled` gives them; `name` is for messages."""
    for number, (key, caption) in enumerate(zip(labelled.keys, labelled.captions, strict=True)):
        ignored = None if labelled.ignored is None else labelled.ignored[number]
        mask = Mask(labelled.masks[number], ignored)
        objects = None if labelled.objects is None else labelled.objects[number]
        yield LabelledSample(f"{name}, {key}", key, caption, labelled.images[number], mask, objects)


def read_labelled(
    urls: Sequence[str], *, unlabelled: bool = False, reading: MaskReading | None = None
) -> Labelled:
    """Reads all samples with an `image.png` or `image.webp`, a `mask.png` and, optionally, `objects.png` and `json`.

    The JSON file may have a `caption`, and an `artifact_score` as imports of RichHF do. `objects.png` is 8-bit grey: 0
    for the background, and a level from 1 on for each object. Nothing is
    unpacked. Names, sizes and images are untrusted and are checked as the factory's sources are.

    Args:
        urls: fsspec URLs or paths of tars, folders or globs; brace ranges are written out.
        unlabelled: masks may be missing; they are then empty.
        reading: how the masks are to be read.

    Raises:
        EvaluationError: a sample without image or mask, or with one that cannot be read; a mask of another size
            than its image; two images; images of unequal size; no samples. It names tar and key.
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
        _all_objects(samples),
    )


def _ignored(masks: Sequence[Mask]) -> NDArray[np.bool_] | None:
    if all(mask.ignored is None for mask in masks):
        return None
    return np.stack([np.zeros_like(mask.inside) if mask.ignored is None else mask.ignored for mask in masks])


def _all_objects(samples: Sequence[LabelledSample]) -> NDArray[np.uint8] | None:
    found = [sample.objects for sample in samples if sample.objects is not None]
    return np.stack(found) if len(found) == len(samples) else None


def _samples(url: str, places: Collection[int] | None) -> Iterator[tuple[int, str, dict[str, bytes]]]:
    """Place, key, and files by extension, of every sample of a tar with an image or a mask."""
    files, path = open_store(url)
    with files.open(path, "rb") as stream:
        every = list(members(stream, url, Counter()))
        named = ((*name, member) for member in every if (name := split_name(member.name)))
        samples = grouped(named, partial(_refuse, url)).items()
        wanted = ((key, parts) for key, parts in samples if parts.keys() & {*IMAGES, MASK})
        for place, (key, parts) in enumerate(wanted):
            if places is None or place in places:
                names = [name for name in (*IMAGES, MASK, OBJECTS, CAPTION) if name in parts]
                yield place, key, {name: _read(stream, parts[name], f"{url}, {key}") for name in names}


def _refuse(url: str, reason: str, key: str, extension: str) -> None:
    raise EvaluationError(f"{url}, {key}: it has {extension} twice ({reason}); pack the tar again")


def _read(stream: IO[bytes], member: Member, where: str) -> bytes:
    if member.size > LARGEST_FILE:
        raise EvaluationError(
            f"{where}: {member.name} has {member.size:,} bytes; at most {LARGEST_FILE:,} are read"
        )
    stream.seek(member.offset)
    return stream.read(member.size)


def _decoded(
    files: Mapping[str, bytes], where: str, unlabelled: bool, reading: MaskReading
) -> tuple[NDArray[np.uint8], Mask, NDArray[np.uint8] | None]:
    images = [name for name in IMAGES if name in files]
    if not images:
        raise EvaluationError(f"{where}: {IMAGE} is missing")
    if len(images) > 1:
        raise EvaluationError(f"{where}: it has {' and '.join(images)}; pack the tar again with one of them")
    if MASK not in files and not unlabelled:
        raise EvaluationError(f"{where}: {MASK} is missing; without it there is no truth to compare with")
    part = images[0]
    try:
        decoded = decode(files[part])
        image, mask = np.asarray(decoded.image), Mask(np.zeros(decoded.size[::-1], np.bool_))
        if MASK in files:
            part = MASK
            mask = decode_mask(files[MASK], reading, size=decoded.size, orientation=decoded.orientation)
        part = OBJECTS
        return image, mask, decode_objects(files[OBJECTS], decoded.size) if OBJECTS in files else None
    except Reject as why:
        raise EvaluationError(f"{where}: {part}: {why.detail}") from why


def caption_of(data: bytes | None, where: str) -> str:
    """The caption in a sample's JSON file, empty where it is missing.

    Raises:
        EvaluationError: the file is not JSON; the message begins with `where`.
    """
    return _caption(_document(data, where))


def _document(data: bytes | None, where: str) -> Mapping[str, object]:
    if data is None:
        return {}
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise EvaluationError(f"{where}: {CAPTION} is not JSON: {error}") from error
    return document if isinstance(document, dict) else {}


def _caption(document: Mapping[str, object]) -> str:
    caption = document.get("caption")
    return caption if isinstance(caption, str) else ""


def _score(document: Mapping[str, object]) -> float | None:
    """Foreign sets may use the name for anything: what is not a number counts as missing."""
    score = document.get("artifact_score")
    if isinstance(score, bool) or not isinstance(score, int | float) or abs(score) > _LARGEST_SCORE:
        return None
    return None if math.isnan(score) else float(score)


def _digest(key: str, files: Mapping[str, bytes]) -> bytes:
    total = hashlib.sha256(repr(key).encode())
    for name in sorted(files):
        total.update(f"{name} {hashlib.sha256(files[name]).hexdigest()}\n".encode())
    return total.digest()


def _size(image: NDArray[np.uint8]) -> str:
    return f"{image.shape[1]} x {image.shape[0]}"
