"""Which members of a tar are one sample. All readers of tars follow these rules.

A sample's members share a name up to the first dot of its last part (WebDataset's rule). Whoever knows a tar's whole
list of members (`grouped`) puts those of a key together wherever they are; whoever reads a tar as a stream (`adjacent`)
refuses one whose samples are not each in one piece. The case of an extension does not matter.
"""

from __future__ import annotations

import re
import tarfile
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from operator import itemgetter
from typing import TypeVar

_NAME = re.compile(r"((?:.*/)?[^./][^./]*)\.([^/]+)", re.DOTALL)

Part = TypeVar("Part")
Named = tuple[str, str, Part]
"""Key, extension, and whatever stands for a member."""

OnRepeat = Callable[[str, str, str], None]
"""Called with a reason, a key and an extension for what is left out of a sample."""


class ScatteredSampleError(tarfile.ReadError):
    """A sample's files do not lie side by side, or one of them comes twice.

    Attributes:
        key: the sample's.
        what: is wrong with it.
    """

    def __init__(self, key: str, what: str) -> None:
        super().__init__(f"sample {key!r}: {what}")
        self.key, self.what = key, what


def split_name(name: str) -> tuple[str, str] | None:
    """Key and extension of a member; None for hidden files and those without an extension."""
    match = _NAME.fullmatch(name)
    return (match[1], match[2]) if match else None


def grouped(members: Iterable[Named[Part]], on_repeat: OnRepeat) -> dict[str, dict[str, Part]]:
    """All samples, in the order in which they begin; members by extension in lower case.

    Members that lie apart are one sample, unless there is one of their extensions already: then they are taken for
    another sample of the same key, and from there on nothing more is added to the first.

    Args:
        on_repeat: called with `duplicate_member` for a second member of one name in a sample, with `ambiguous_case`
            for one whose name differs in the case of its extension only, and with `duplicate_key` for each piece of
            another sample of the same key. Of members that differ in case, the one in lower case counts, or else
            the first by name; of equal ones the first.
    """
    found: dict[str, dict[str, Part]] = {}
    repeated = set[str]()
    for key, piece in groupby(members, itemgetter(0)):
        parts = _parts(key, piece, on_repeat)
        before = found.setdefault(key, parts)
        if before is parts:
            continue
        again = sorted(before.keys() & parts.keys())
        if again or key in repeated:
            repeated.add(key)
            on_repeat("duplicate_key", key, (again or sorted(parts))[0])
        else:
            before.update(parts)
    return found


def adjacent(members: Iterable[Named[Part]]) -> Iterator[tuple[str, dict[str, Part]]]:
    """Streams samples; members by extension as it is written.

    Raises:
        ScatteredSampleError: a sample's files do not lie side by side, or one of them comes twice.
    """
    seen = set[str]()
    for key, piece in groupby(members, itemgetter(0)):
        parts: dict[str, Part] = {}
        for _, extension, part in piece:
            if extension in parts:
                raise ScatteredSampleError(key, f"it has two files {extension}")
            parts[extension] = part
        if key in seen:
            raise ScatteredSampleError(key, "its files do not lie side by side")
        seen.add(key)
        yield key, parts


def _parts(key: str, piece: Iterable[Named[Part]], on_repeat: OnRepeat) -> dict[str, Part]:
    """The members of one piece of a sample."""
    written: dict[str, dict[str, Part]] = {}
    for _, extension, part in piece:
        spellings = written.setdefault(extension.lower(), {})
        if extension in spellings:
            on_repeat("duplicate_member", key, extension)
        elif spellings:
            on_repeat("ambiguous_case", key, extension)
        spellings.setdefault(extension, part)
    return {low: spellings.get(low, spellings[min(spellings)]) for low, spellings in written.items()}
