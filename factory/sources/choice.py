"""Which of the items that a source finds are taken: sampling, filters, and a limit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import islice

from actors.errors import Reject
from factory.output.reference import Reference
from factory.recipe.source import Filter
from factory.sources.filters import reason_against
from factory.store import remote

GiveFields = Callable[[], Mapping[str, object] | Reject]


@dataclass(frozen=True)
class Candidate:
    """An item that was found, and may be taken.

    Attributes:
        reference: to it.
        fields: gives the metadata of the item, which may need a read; a `Reject` has the reason why it cannot be
            read.
    """

    reference: Reference
    fields: GiveFields = dict


@dataclass(frozen=True)
class Choice:
    """Sampling first, which costs nothing, then the filters, then the limit.

    Attributes:
        seed: the recipe's.
        share: of the items, sampled one by one. Whether an item is taken depends on seed and key alone, so that it
            stays taken when the source grows, and when the share does.
        filters: all must hold.
        limit: takes at most N items, the first that remain.
    """

    seed: int = 0
    share: float = 1.0
    filters: Sequence[Filter] = ()
    limit: int | None = None

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of the fields that the filters look at, each once."""
        return tuple(dict.fromkeys(one.field for one in self.filters))

    def __call__(
        self, candidates: Iterable[Candidate], skipped: Counter[str], *, at_once: int = 1
    ) -> Iterator[Reference]:
        """Streams what is taken, in the order of the candidates.

        Args:
            skipped: counts what is not, by reason. What a limit leaves out is not counted.
            at_once: candidates whose fields may be read in parallel.
        """
        return islice(self._filtered(self._sampled(candidates, skipped), skipped, at_once), self.limit)

    def _sampled(self, candidates: Iterable[Candidate], skipped: Counter[str]) -> Iterator[Candidate]:
        for candidate in candidates:
            if self.share == 1 or _number(self.seed, candidate.reference.key) < self.share:
                yield candidate
            else:
                skipped["not_sampled"] += 1

    def _filtered(
        self, candidates: Iterable[Candidate], skipped: Counter[str], at_once: int
    ) -> Iterator[Reference]:
        if not self.filters:
            yield from (candidate.reference for candidate in candidates)
            return
        looked = map(_looked, candidates) if at_once == 1 else remote.read_ahead(_looked, candidates, at_once)
        for reference, fields in looked:
            reason = fields.reason if isinstance(fields, Reject) else reason_against(fields, self.filters)
            if reason:
                skipped[reason] += 1
            else:
                yield reference


EVERYTHING = Choice()


def _looked(candidate: Candidate) -> tuple[Reference, Mapping[str, object] | Reject]:
    return candidate.reference, candidate.fields()


def _number(seed: int, key: str) -> float:
    """Evenly in [0, 1), from the first 53 bits of the hash of seed and key."""
    digest = sha256(f"{seed}\0{key}\0sample".encode()).digest()
    return (int.from_bytes(digest[:8]) >> 11) / 2**53
