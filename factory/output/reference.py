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
_PLACES = ("stem", "group", "row")
_FILES = ("image", "caption", "mask")
"""Keys of a member: those that tell the item from all others in its file, and those that name files of the item."""

_SIDE_FILES = re.compile(r" (?:caption|mask)=")


@dataclass(frozen=True)
class Reference:
    """One row of the plan: where an item is, without holding it.

    Attributes:
        key: made by `key_for`; letters, digits, `-` and `_` only, at most 80 characters. What follows the last `-`
            identifies the item by itself.
        url: absolute URL of the file without secrets, since plans and shards publish it; or `tinytown:SEED`.
        member: what finds the item inside the file, as `place_in` reads it: empty, or a JSON object with `stem` (the
            item's name in a tar), or `group` and `row` (in Parquet), and `image`, `caption`, `mask`, which name files.
        caption: its prompt, empty when it is not known before reading.
        version: the state of the image's file as the store reports it (an etag, or size and time), then ` mask=STATE`
            and ` caption=STATE` of the files beside it; empty only where the bytes cannot change. `read` compares it.
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
        """Streams the items in a fixed order, the same on every run; loads no image.

        Raises:
            SourceError: a URL that leads to nothing, or a file that cannot be listed.
        """

    def read(self, references: Sequence[Reference]) -> Iterator[tuple[Reference, Raw | Reject]]:
        """Streams one result for each item, in the order given; a `Reject` says what is wrong with an item itself.

        Workers call it on a source of their own, without `list` before it, for any items of the plan; several sources
        may be at work in one process.

        Raises:
            SourceError: a file is not as it was when it was planned, or is gone. This ends the run.
            OSError: the store failed. The build tries again, `execution.passes` times, as it does after any other
                exception: so a library's own errors are turned into one of these three.
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
    """Where an item is by the names that a plan has: its URL, and its stem, or its group and row, in that file.

    Two items with the same place are one item to `build --mode extend` and to `split`.

    Raises:
        ValueError: the member has keys that no source uses.
    """
    named = json.loads(member) if member else {}
    if not isinstance(named, dict):
        raise ValueError(f"{member!r} is not a JSON object")
    if unknown := named.keys() - {*_PLACES, *_FILES}:
        raise ValueError(
            f"{member!r} has unknown keys {sorted(unknown)}; allowed: {', '.join((*_PLACES, *_FILES))}"
        )
    return "\0".join([url, *(f"{name}={named[name]}" for name in _PLACES if name in named)])


def state_of_image(version: str) -> str:
    """Of an item's version, what is of the file of the image alone."""
    return _SIDE_FILES.split(version, maxsplit=1)[0]
