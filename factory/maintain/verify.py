"""Checks an output against its plan: every item in exactly one place, every byte as it was written."""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from actors.errors import OutputError
from factory.maintain.made_by import MadeBy
from factory.maintain.verify_files import (
    Problem,
    check_documents,
    check_identities,
    check_owners,
    check_plans,
    check_recipes,
    foreign_files,
    strays,
)
from factory.maintain.verify_index import check_index, index_rows, read_index
from factory.maintain.verify_sample import check_sample
from factory.output.manifest import done_shards, progress, read_sidecars
from factory.output.plan import Plan, read_plan, shard_name
from factory.output.provenance import Part, part_at, parts_of
from factory.output.shards.records import FileRecord, index_path, read_sidecar, stats_path, tar_path
from factory.output.shards.tar import Hashing, samples
from factory.output.shards.tar_samples import ScatteredSampleError
from factory.store.remote import read_ahead
from factory.store.storage import Storage

__all__ = ["Problem", "ShardVerdict", "Verdict", "check_shard", "read_index", "verify"]

THREADS = 8
"""Shards that are checked side by side, one sample of each in memory. Hashing and decoding free Python's lock."""


@dataclass(frozen=True)
class Verdict:
    """What a check found.

    Attributes:
        planned, accepted, rejected: items of the plan, and of the indexes of the published shards.
        shards, done: of the plan, and published.
        problems: empty where all is well.
        notes: what is worth knowing and not a problem, such as files of other programs, or shards from several hardware
            classes.
    """

    planned: int
    accepted: int
    rejected: int
    shards: int
    done: int
    problems: tuple[Problem, ...]
    notes: tuple[Problem, ...] = ()

    @property
    def sound(self) -> bool:
        """No problem, and `accepted + rejected = planned`."""
        return not self.problems and self.accepted + self.rejected == self.planned


@dataclass(frozen=True)
class ShardVerdict:
    """What a check of one published shard found.

    Attributes:
        number: of the shard.
        accepted, rejected: rows of its index.
        problems: empty where all is well.
    """

    number: int
    accepted: int
    rejected: int
    problems: tuple[Problem, ...]


ShardChecks = Callable[[Storage, Sequence[int]], Iterator[ShardVerdict]]
"""Checks published shards of an output, by number."""


def check_on_threads(storage: Storage, numbers: Sequence[int]) -> Iterator[ShardVerdict]:
    """Check shards side by side in this process."""
    plan = read_plan(storage)
    parts = parts_of(storage, plan)
    return read_ahead(lambda number: check_shard(storage, plan, parts, number), numbers, THREADS)


def verify(storage: Storage, *, check_shards: ShardChecks = check_on_threads) -> Verdict:
    """Reads every shard whole and compares it with plan, identity, index and sidecar; then manifest and card with all.

    Shards are checked side by side, each as a stream of samples; the verdict is the same however it is done.

    Args:
        storage: the output.
        check_shards: checks the published shards with these numbers, and yields their verdicts in that order: on
            threads of this process, or `factory.maintain.verify_on_ray.CheckOnRay`.

    Raises:
        OutputError: plan or identity are missing or damaged, so that there is nothing to compare with.
        BuildError: `check_shards` could not do its work.
    """
    plan = read_plan(storage)
    parts = parts_of(storage, plan)
    done = done_shards(storage)
    problems = [*strays(storage, plan, done), *check_plans(storage, plan)]
    problems += [*check_identities(storage, plan), *check_recipes(storage, plan, parts)]
    notes = list(foreign_files(storage))
    numbers = [number for number in range(plan.shards) if number in done]
    checked = check_shards(storage, numbers)
    accepted = rejected = 0
    for number in range(plan.shards):
        if number not in done:
            problems.append(
                Problem(shard_name(number), "not made yet: the plan has it, stats/ has no sidecar")
            )
            continue
        found = next(checked)
        assert found.number == number, f"shard {found.number} in the place of {number}"
        problems += found.problems
        accepted, rejected = accepted + found.accepted, rejected + found.rejected
    if not problems:
        sidecars = read_sidecars(storage)
        wrong, missing = check_documents(storage, plan, sidecars)
        problems += [*wrong, *check_owners(storage, plan, sidecars)]
        notes += missing
        notes += [Problem("stats", f"mixed hardware: {line}") for line in progress(plan, sidecars).mixtures]
    return Verdict(plan.items, accepted, rejected, plan.shards, len(done), tuple(problems), tuple(notes))


def check_shard(storage: Storage, plan: Plan, parts: Sequence[Part], number: int) -> ShardVerdict:
    """Checks one published shard. That a file of it is missing or cannot be read at all is a problem too."""
    try:
        made_by = MadeBy.of(part_at(parts, number).identity, storage.url)
        rows, problems = _check(storage, plan, number, made_by)
    except OutputError as error:
        return ShardVerdict(number, 0, 0, (Problem(shard_name(number), str(error)),))
    accepted = sum(row["status"] == "accepted" for row in rows)
    return ShardVerdict(number, accepted, len(rows) - accepted, tuple(problems))


def _check(
    storage: Storage, plan: Plan, number: int, made_by: MadeBy
) -> tuple[list[dict[str, object]], list[Problem]]:
    sidecar = read_sidecar(storage, number)
    index = storage.read(index_path(number))
    problems = []
    if len(index) != sidecar.index.bytes or hashlib.sha256(index).hexdigest() != sidecar.index.sha256:
        problems.append(Problem(index_path(number), "its sha256 is not that of the sidecar"))
    if sidecar.digest != made_by.digest:
        problems.append(Problem(stats_path(number), "it was made by another recipe (digest differs)"))
    if storage.read(stats_path(number)) != sidecar.encoded:
        problems.append(
            Problem(
                stats_path(number), "not in the form in which it is written: repeated keys or other spelling"
            )
        )
    rows = index_rows(index, f"{storage.url}: {index_path(number)}")
    problems += [Problem(*found) for found in check_index(number, rows, plan.shard(number), sidecar, made_by)]
    accepted = {str(row["key"]): row for row in rows if row["status"] == "accepted"}
    problems += _check_tar(storage, number, sidecar.tar, accepted, made_by)
    return rows, problems


def _check_tar(
    storage: Storage,
    number: int,
    recorded: FileRecord | None,
    accepted: Mapping[str, Mapping[str, object]],
    made_by: MadeBy,
) -> Iterator[Problem]:
    path = tar_path(number)
    if recorded is None:
        if accepted:
            yield Problem(path, f"the sidecar says there is no tar, the index has {len(accepted)} samples")
        if storage.exists(path):
            yield Problem(path, "there is a tar, the sidecar says there is none")
        return
    if not storage.exists(path):
        yield Problem(path, "missing: the sidecar stands without its tar")
        return
    found: dict[str, list[str]] = {}
    unreadable = None
    with storage.open(path) as stream:
        source = Hashing(stream)
        try:
            for key, files in samples(source):
                if key in accepted:
                    found[key] = list(check_sample(key, accepted[key], files, made_by))
                else:
                    found[key] = ["in the tar, but not accepted in the index"]
        except tarfile.TarError as error:
            unreadable = error  # nothing after it was looked at, so that no other sample is judged
        source.drain()
    if source.bytes != recorded.bytes:
        yield Problem(path, f"{source.bytes} bytes, the sidecar says {recorded.bytes}")
    if source.sha256 != recorded.sha256:
        yield Problem(path, "its sha256 is not that of the sidecar: bytes were changed")
    if isinstance(unreadable, ScatteredSampleError):
        yield Problem(f"{path} {unreadable.key}", unreadable.what)
        return
    if unreadable is not None:
        yield Problem(path, f"not a tar as it is written: {unreadable}")
    else:
        order = [key for key in found if key in accepted]
        found.update((key, ["not in the tar"]) for key in accepted.keys() - found.keys())
        if order != [key for key in accepted if key in order]:
            yield Problem(path, "its samples are not in the order of the index")
    for key in (*sorted(found.keys() - accepted.keys()), *(key for key in accepted if key in found)):
        yield from (Problem(f"{path} {key}", what) for what in found[key])
