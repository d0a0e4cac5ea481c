"""Which items a plan has already, and which of them have changed since."""

from __future__ import annotations

import re
from array import array
from collections.abc import Mapping, Sequence
from enum import Enum, auto

import numpy as np
from numpy.typing import NDArray

from actors.errors import OutputError
from factory.output.plan import Plan, hash_of
from factory.output.reference import Reference, digest_of, place_in, state_of_image

_RENAMED = re.compile(r"-v\d+")


class State(Enum):
    """The state of an item with respect to a plan."""

    NEW = auto()
    PLANNED = auto()
    CHANGED = auto()


class Planned:
    """The items of a plan; about 40 bytes of each are in memory.

    An item is known by its file, in two ways: the digest in its key is the same for all spellings of a URL, and its
    URL and member are the same where a link among its folders leads elsewhere now, or where a release of Flawforge
    with other keys drew the plan. Items under keys of their own (`KEY-v2`) do not count.

    Args:
        same_fields: by number of version, whether its recipe has the same `source.fields` as the items to be
            looked up. If not, versions of captions and masks cannot be compared.
    """

    def __init__(self, plan: Plan, same_fields: Mapping[int, bool]) -> None:
        digests, places, versions, whole = array("Q"), array("Q"), array("Q"), array("B")
        for one in plan.versions:
            state = str if same_fields[one.number] else state_of_image
            for rows in plan.columns(one, "key", "url", "member", "version"):
                for key, url, member, version in zip(*rows, strict=True):
                    if _RENAMED.fullmatch(f"-{digest_of(key)}"):
                        continue
                    digests.append(hash_of(digest_of(key)))
                    try:
                        places.append(hash_of(place_in(url, member)))
                    except ValueError as error:
                        raise OutputError(
                            f"{plan.storage.url}: {one.path} is damaged: the member of {key!r}: {error}"
                        ) from error
                    versions.append(hash_of(state(version)))
                    whole.append(same_fields[one.number])
        self._by_digest, self._by_place = _Table(digests), _Table(places)
        self._versions, self._whole = versions, whole

    def states(self, items: Sequence[Reference]) -> list[State]:
        """Of every item, whether the plan has it."""
        by_digest = self._by_digest.rows([hash_of(digest_of(item.key)) for item in items])
        by_place = self._by_place.rows([hash_of(place_in(item.url, item.member)) for item in items])
        return [self._state(*one) for one in zip(items, by_place, by_digest, strict=True)]

    def _state(self, item: Reference, by_place: int, by_digest: int) -> State:
        row = by_place if by_place >= 0 else by_digest
        if row < 0:
            return State.NEW
        whole = self._whole[row] and by_place >= 0  # under another name it has other files beside it
        here = item.version if whole else state_of_image(item.version)
        return State.PLANNED if hash_of(here) == self._versions[row] else State.CHANGED


class _Table:
    """Rows by a hash of them."""

    def __init__(self, hashes: array[int]) -> None:
        self._order = np.argsort(np.frombuffer(hashes, dtype=np.uint64), kind="stable")
        self._sorted = np.frombuffer(hashes, dtype=np.uint64)[self._order]

    def rows(self, wanted: Sequence[int]) -> list[int]:
        """A row for every hash, -1 if it is missing."""
        if not len(self._sorted):
            return [-1] * len(wanted)
        sought: NDArray[np.uint64] = np.array(wanted, dtype=np.uint64)
        places = np.minimum(np.searchsorted(self._sorted, sought), len(self._sorted) - 1)
        return [int(row) for row in np.where(self._sorted[places] == sought, self._order[places], -1)]
