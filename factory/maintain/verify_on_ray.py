"""Checks shards on the workers of a Ray cluster. What comes back is verdicts: the driver holds no shard."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from factory.maintain.verify import ShardVerdict, check_shard
from factory.output.plan import read_plan
from factory.output.provenance import parts_of
from factory.store.storage import Storage


def _check(url: str, number: int) -> ShardVerdict:
    storage = Storage(url)
    plan = read_plan(storage)
    return check_shard(storage, plan, parts_of(storage, plan), number)


@dataclass(frozen=True)
class CheckOnRay:
    """Check every shard in a task of one CPU; see `factory.maintain.verify.verify`.

    Attributes:
        address: of the cluster, or `local` to start one here. Every worker must be able to read the output.
        check: checks the shard with a number of the output at a URL; by default one of a build.
    """

    address: str
    check: Callable[[str, int], ShardVerdict] = _check

    def __call__(self, storage: Storage, numbers: Sequence[int]) -> Iterator[ShardVerdict]:
        """Yield the verdicts in the order of the numbers.

        Raises:
            BuildError: there is no such cluster, or its workers cannot read the output.
        """
        from factory.pipeline.workers import on_workers  # not above: it loads Ray

        url = storage.url
        return on_workers(
            self.check, ((url, number) for number in numbers), self.address, f"check a shard of {url}"
        )
