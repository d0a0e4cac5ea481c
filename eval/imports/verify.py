"""Checks an imported set against its plan: every item in exactly one place, every byte as it was written."""

from __future__ import annotations

import json
import tarfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial

from actors.errors import OutputError
from eval.imports.index import Row, read_rows
from eval.imports.labelled_set import JSON
from factory.maintain.verify import THREADS, ShardChecks, ShardVerdict, Verdict
from factory.maintain.verify_files import (
    Problem,
    check_identities,
    check_owners,
    check_plans,
    foreign_files,
    strays,
)
from factory.output.identity import Identity, read_identity
from factory.output.manifest import PATH as MANIFEST
from factory.output.manifest import done_shards, manifest_bytes, progress, read_sidecars
from factory.output.plan import Plan, read_plan, shard_name
from factory.output.provenance import parts_of
from factory.output.shards.records import (
    Sidecar,
    columns_of,
    index_path,
    read_sidecar,
    record_of,
    stats_path,
    tar_path,
)
from factory.output.shards.tar import Hashing, samples
from factory.store.remote import read_ahead
from factory.store.storage import Storage


def verify_import(storage: Storage, *, check_shards: ShardChecks | None = None) -> Verdict:
    """Reads every shard whole and compares it with plan, identity, index and sidecar; then the manifest with all.

    Args:
        storage: the output.
        check_shards: see `factory.maintain.verify.verify`; None checks on threads of this process.

    Raises:
        OutputError: plan or identity are missing or damaged, so that there is nothing to compare with.
        BuildError: `check_shards` could not do its work.
    """
    plan, (identity, _) = read_plan(storage), read_identity(storage)
    name = parts_of(storage, plan)[0].name
    done = done_shards(storage)
    problems = [*strays(storage, plan, done), *check_plans(storage, plan), *check_identities(storage, plan)]
    problems += [
        Problem(shard_name(number), "not made yet: run the same command again")
        for number in range(plan.shards)
        if number not in done
    ]
    accepted = rejected = 0
    numbers = [number for number in range(plan.shards) if number in done]
    for found in (check_shards or _check_on_threads)(storage, numbers):
        problems += found.problems
        accepted, rejected = accepted + found.accepted, rejected + found.rejected
    if not problems:
        sidecars = read_sidecars(storage)
        problems += check_owners(storage, plan, sidecars)
        wanted = manifest_bytes(plan, identity, sidecars, progress(plan, sidecars), name)
        if not storage.exists(MANIFEST) or storage.read(MANIFEST) != wanted:
            problems.append(
                Problem(MANIFEST, "it does not say what the sidecars say; run the same command again")
            )
    notes = tuple(foreign_files(storage))
    return Verdict(plan.items, accepted, rejected, plan.shards, len(done), tuple(problems), notes)


def check_imported_shard(url: str, number: int) -> ShardVerdict:
    """Checks one published shard, in any process; see `factory.maintain.verify_on_ray`."""
    storage = Storage(url)
    return _check_shard(storage, read_plan(storage), read_identity(storage)[0], number)


def _check_on_threads(storage: Storage, numbers: Sequence[int]) -> Iterator[ShardVerdict]:
    check = partial(_check_shard, storage, read_plan(storage), read_identity(storage)[0])
    return read_ahead(check, numbers, THREADS)


def _check_shard(storage: Storage, plan: Plan, identity: Identity, number: int) -> ShardVerdict:
    try:
        sidecar, rows = read_sidecar(storage, number), read_rows(storage, number)
        problems = [
            *_check_index(storage, plan, number, sidecar, rows),
            *(
                Problem(stats_path(number), "it was made with other settings")
                for _ in range(sidecar.digest != identity.digest)
            ),
            *_check_tar(storage, number, sidecar, [row for row in rows if row["status"] == "accepted"]),
        ]
    except OutputError as error:
        return ShardVerdict(number, 0, 0, (Problem(shard_name(number), str(error)),))
    accepted = sum(row["status"] == "accepted" for row in rows)
    return ShardVerdict(number, accepted, len(rows) - accepted, tuple(problems))


def _check_index(
    storage: Storage, plan: Plan, number: int, sidecar: Sidecar, rows: Sequence[Row]
) -> Iterator[Problem]:
    path = index_path(number)
    if record_of(storage.read(path)) != sidecar.index:
        yield Problem(path, "its bytes are not those that the sidecar records")
    if [row["key"] for row in rows] != [item.key for item in plan.shard(number)]:
        yield Problem(path, "its keys are not those of the plan, in their order")
    reasons = Counter(str(row["reason"]) for row in rows if row["status"] == "rejected")
    if any((row["status"] == "accepted") != (row["reason"] == "") for row in rows):
        yield Problem(path, "a row is neither accepted nor rejected with a reason")
    counts = (sidecar.planned, sidecar.accepted, sidecar.rejected, sidecar.reasons)
    if counts != (len(rows), len(rows) - reasons.total(), reasons.total(), dict(reasons)):
        yield Problem(stats_path(number), "its counts are not those of the index")


def _check_tar(storage: Storage, number: int, sidecar: Sidecar, accepted: Sequence[Row]) -> Iterator[Problem]:
    path = tar_path(number)
    if sidecar.tar is None or not storage.exists(path):
        if accepted or sidecar.tar is not None or storage.exists(path):
            yield Problem(path, "it is missing, or should not be there: sidecar and index say otherwise")
        return
    with storage.open(path) as stream:
        source = Hashing(stream)
        try:
            for (key, files), row in zip(samples(source), accepted, strict=True):
                yield from (
                    Problem(f"{path} {key}", what) for what in check_sample(key, files, row, sidecar.digest)
                )
        except tarfile.TarError as error:
            yield Problem(path, f"not a tar as it is written: {error}")
        except ValueError:  # of zip
            yield Problem(path, "it has not as many samples as the index accepts")
        source.drain()
    if (source.bytes, source.sha256) != (sidecar.tar.bytes, sidecar.tar.sha256):
        yield Problem(path, "its bytes are not those that the sidecar records")


def check_sample(key: str, files: Mapping[str, bytes], row: Row, digest: str) -> Iterator[str]:
    """What is wrong with the files of a sample, by its row of the index and the digest of the import."""
    if key != row["key"]:
        yield f"the index has {row['key']} in its place"
        return
    for extension, data in files.items():
        size, sha256 = (row.get(column) for column in columns_of(extension))
        record = record_of(data)
        if (size, sha256) != (record.bytes, record.sha256):
            yield f"{extension} is not the file that the index records"
    recorded = sum(name.endswith("_sha256") and value is not None for name, value in row.items())
    if recorded != len(files):
        yield f"it has {len(files)} files, the index records {recorded}"
    try:
        document = json.loads(files.get(JSON, b""))
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict) or (document.get("key"), document.get("recipe_digest")) != (
        key,
        digest,
    ):
        yield f"{JSON} is not a JSON object with this key and the digest of the output"
