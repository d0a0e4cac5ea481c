"""What a source gives: references to items when it is listed, and their bytes when they are read."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Protocol

from actors.errors import Reject

_LONGEST_NAME = 60
_OTHER_THAN_KEY = re.compile(r"[^A-Za-z0-9_-]+")
_SIDE_FILES = re.compile(r" (?:caption|mask)=")


@dataclass(frozen=True)
class Reference:
    """One row of the plan: where an item is, without holding it.

    Attributes:
        key: unique in the data set; letters, digits, `-` and `_` only, at most 80 characters.
        url: full fsspec URL of the file, or `tinytown:SEED`.
        member: what finds the item inside the file, in the source's own notation; else empty.
        caption: its prompt, empty when it is not known before reading.
        version: the file's state as the store reports it (an etag, or size and time); empty for tinytown.
    """

    key: str
    url: str
    member: str
    caption: str
    version: str


@dataclass(frozen=True)
class Raw:
    """What a read gives: encoded bytes as they lie in the source, not looked into yet.

    Attributes:
        image: an image file's bytes.
        mask: a mask file's bytes, where the source brings one.
        caption: its prompt, or an empty string.
    """

    image: bytes
    mask: bytes | None
    caption: str


class Source(Protocol):
    """Where clean images come from.

    Attributes:
        skipped: what the last listing passed over, by reason; whole once the listing has ended.
    """

    skipped: Counter[str]

    def list(self) -> Iterator[Reference]:
        """Streams the items in the order of their URLs, the same on every run; loads no image.

        Raises:
            SourceError: a URL that leads to nothing, or a file that cannot be listed.
        """

    def read(self, references: Sequence[Reference]) -> Iterator[tuple[Reference, Raw | Reject]]:
        """Streams the items in the order given; a `Reject` stands for what is wrong with an item itself.

        Raises:
            SourceError: a file is not as it was when it was planned.
            OSError: the store failed; the next attempt may succeed.
        """


def key_for(name: str, identity: str) -> str:
    """A key that people recognise and that no two items share.

    Args:
        name: of the item; its last 60 characters become part of the key, as far as a key may hold them.
        identity: unique to the item: the URL of its file as in `Found.identity`, and its place in the file.
            It must not depend on how the recipe spells the URL, or on its position in the list.
    """
    readable = _OTHER_THAN_KEY.sub("_", name)[-_LONGEST_NAME:].strip("_-") or "item"
    digest = sha256(identity.encode("utf-8", "surrogateescape")).hexdigest()
    return f"{readable}-{digest[:16]}"


def digest_of(key: str) -> str:
    """The part of a key that stands for the item's identity."""
    return key.rpartition("-")[2]


def place_in(url: str, member: str) -> str:
    """The place of an item in the notation of a plan: its URL, and its stem or row in that file.

    Raises:
        ValueError: the member is not in the notation of any source.
    """
    named = json.loads(member) if member else {}
    if not isinstance(named, dict):
        raise ValueError(f"{member!r} is no member of a source")
    return "\0".join([url, *(f"{name}={named[name]}" for name in ("stem", "group", "row") if name in named)])


def state_of_image(version: str) -> str:
    """Of an item's version, what is of the file of the image alone."""
    return _SIDE_FILES.split(version, maxsplit=1)[0]
