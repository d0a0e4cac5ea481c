"""Two tars, member by member, with headers and padding."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import zip_longest

import numpy as np
from PIL import Image

from tools.equal_bytes.texts import text_differences


@dataclass(frozen=True)
class Member:
    """A file in a tar.

    Attributes:
        name: of the file.
        header: all bytes between the content of the member before and its own: padding and header.
        content: its bytes.
    """

    name: str
    header: bytes
    content: bytes


def members_of(data: bytes) -> list[Member]:
    """The members of a tar; the last, without a name, is what follows them. Empty for what is not a tar."""
    found: list[Member] = []
    end = 0
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as tar:
            for info in tar:
                begin, last = info.offset_data, info.offset_data + info.size
                found.append(Member(info.name, data[end:begin], data[begin:last]))
                end = last
    except tarfile.TarError:
        return []
    return [*found, Member("", data[end:], b"")]


def tar_differences(
    before: bytes,
    after: bytes,
    mask_before: Callable[[bytes], bytes],
    mask_after: Callable[[bytes], bytes],
) -> Iterator[tuple[str, str]]:
    """Member, with the field of its JSON, and what differs in it.

    Args:
        before, after: content of the tars.
        mask_before, mask_after: mask the JSON of a sample.
    """
    if before == after:
        return
    members = members_of(before), members_of(after)
    if not all(members):
        yield "", "it is not a tar"
        return
    for old, new in zip_longest(*members):
        if old is None or new is None or old.name != new.name:
            name = [one.name or "the end" if one else "nothing" for one in (old, new)]
            yield name[0], f"{name[1]} takes its place"
            return
        if old.header != new.header:
            yield old.name or "the end", "header or padding differs"
        if old.name.endswith(".json"):
            for where, what in text_differences(mask_before(old.content), mask_after(new.content)):
                yield f"{old.name} {where}".strip(), what
        elif old.content != new.content:
            yield old.name, _of_images(old.content, new.content)


def _of_images(before: bytes, after: bytes) -> str:
    try:
        old, new = (np.asarray(Image.open(io.BytesIO(data))).astype(int) for data in (before, after))
    except (OSError, ValueError):
        return "the bytes differ"
    if old.shape != new.shape:
        return f"the shape is {old.shape}, and was {new.shape}"
    levels = np.abs(old - new)
    if not levels.any():
        return "the bytes differ, and all pixels are equal"
    pixels = levels.reshape(*levels.shape[:2], -1).any(axis=2)
    return f"{pixels.sum()} of {pixels.size} pixels differ, by at most {levels.max()}"
