"""Images with their true masks, read whole from WebDataset tars into arrays."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import IO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from actors.errors import EvaluationError, Reject
from actors.images import decode_image
from factory.sources.listing import Wanted, extension_reason, find
from factory.sources.store import LARGEST_FILE, open_store
from factory.sources.tar_members import Member, members
from factory.tar_samples import grouped, split_name

IMAGE, MASK, CAPTION = "image.png", "mask.png", "json"

_TARS = Wanted("tars", lambda name: None if name.lower().endswith(".tar") else extension_reason(name))


@dataclass(frozen=True)
class Labelled:
    """Images of one size with the truth about them, in the order of their tars.

    Attributes:
        keys: of the samples; unique within a tar.
        captions: empty where a sample has none.
        images: uint8 [N, H, W, 3], RGB.
        masks: bool [N, H, W], true where an artifact is; all false where the set is unlabelled.
    """

    keys: list[str]
    captions: list[str]
    images: NDArray[np.uint8]
    masks: NDArray[np.bool_]


def read_labelled(urls: Sequence[str], *, unlabelled: bool = False) -> Labelled:
    """Reads all samples with an `image.png`, a `mask.png` and, if they like, a `json` with a `caption`.

    Nothing is unpacked. Names, sizes and pictures come from outside and are checked as a factory's sources are.

    Args:
        urls: fsspec URLs or paths of tars, folders or globs; brace ranges are written out.
        unlabelled: masks may be missing; they are then empty.

    Raises:
        EvaluationError: a sample without image or mask, or with one that cannot be read; a mask of another size
            than its image; images of unequal size; no samples. It names tar and key.
        SourceError: no tars there, or a damaged one.
    """
    keys: list[str] = []
    captions: list[str] = []
    images: list[NDArray[np.uint8]] = []
    masks: list[NDArray[np.bool_]] = []
    for where, key, files in _samples(urls):
        image, mask = _pictures(files, where, unlabelled)
        if images and image.shape != images[0].shape:
            raise EvaluationError(
                f"{where}: the image is {_size(image)} pixels, those before it {_size(images[0])}; "
                "images of one size are wanted"
            )
        keys.append(key)
        captions.append(_caption(files.get(CAPTION), where))
        images.append(image)
        masks.append(mask)
    if not keys:
        raise EvaluationError(f"{', '.join(urls) or 'no URL'}: no sample with {IMAGE} was found")
    return Labelled(keys, captions, np.stack(images), np.stack(masks))


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


def _pictures(
    files: Mapping[str, bytes], where: str, unlabelled: bool
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    if IMAGE not in files:
        raise EvaluationError(f"{where}: {IMAGE} is missing")
    image = np.asarray(_decoded(files[IMAGE], f"{where}: {IMAGE}"))
    if MASK not in files:
        if unlabelled:
            return image, np.zeros(image.shape[:2], np.bool_)
        raise EvaluationError(f"{where}: {MASK} is missing; without it there is no truth to compare with")
    levels = np.asarray(_decoded(files[MASK], f"{where}: {MASK}").convert("L"))
    if levels.shape != image.shape[:2]:
        raise EvaluationError(
            f"{where}: the mask is {_size(levels)} pixels, the image {_size(image)}; they must be equal"
        )
    # Some tools write masks as 0 and 1 instead of 0 and 255.
    return image, levels >= (1 if levels.max() == 1 else 128)


def _decoded(data: bytes, where: str) -> Image.Image:
    try:
        return decode_image(data)
    except Reject as why:
        raise EvaluationError(f"{where}: {why.detail}") from why


def _caption(data: bytes | None, where: str) -> str:
    """A caption is a comfort for the reader here, so that one which is not there is an empty one."""
    if data is None:
        return ""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise EvaluationError(f"{where}: {CAPTION} is not JSON: {error}") from error
    caption = document.get("caption") if isinstance(document, dict) else None
    return caption if isinstance(caption, str) else ""


def _size(picture: NDArray[np.uint8]) -> str:
    return f"{picture.shape[1]} x {picture.shape[0]}"
