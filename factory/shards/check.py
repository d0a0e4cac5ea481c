"""Checks an output against its plan: every item in exactly one place, every byte as it was written."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from actors.batch import METRICS
from actors.errors import OutputError
from factory.care.parts import digest_at, identity_of
from factory.identity import Identity, read_identity
from factory.manifest import PATH as MANIFEST
from factory.manifest import done_shards, manifest, progress, read_sidecars
from factory.plan import Plan, read_plan, shard_name
from factory.shards.records import (
    INDEX_SCHEMA,
    FileRecord,
    Sidecar,
    index_path,
    read_sidecar,
    stats_path,
    tar_path,
)
from factory.shards.tar import Hashing, samples
from factory.sources.store import read_ahead
from factory.storage import Storage

THREADS = 8
"""Shards that are checked side by side, one sample of each in memory. Hashing and decoding free Python's lock."""

PICTURES = ("image.png", "mask.png", "changed.png")
OPTIONAL_PICTURES = ("original.png",)
JSON_FIELDS = frozenset(
    {"schema_version", "key", "source", "caption", "label", "method", "inference_steps", "inversion_steps"}
    | {"seed", "attempts", "verified", "recipe_digest", *METRICS}
)


@dataclass(frozen=True)
class Problem:
    """Something wrong with an output: where, and what."""

    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


@dataclass(frozen=True)
class Verdict:
    """What a check found.

    Attributes:
        planned, accepted, rejected: items of the plan, and of the indexes of the published shards.
        shards, done: of the plan, and published.
        problems: empty where all is well.
        notes: what is no problem and should be known, such as shards from several hardware classes.
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


def verify(storage: Storage, *, address: str | None = None) -> Verdict:
    """Reads every shard whole and compares it with plan, index and sidecar; then the manifest with all of them.

    Shards are checked side by side, each as a stream of samples; the verdict is the same however it is done.

    Args:
        storage: the output.
        address: a Ray cluster whose workers check the shards, or `local` to start one here; None checks them on
            threads of this process.

    Raises:
        OutputError: plan or identity are missing or damaged, so that there is nothing to compare with.
        BuildError: there is no such cluster, or its workers cannot read the output.
    """
    plan = read_plan(storage)
    identity = identity_of(storage, plan)
    done = done_shards(storage)
    problems = list(_strays(storage, plan, done))
    problems += _check_plans(storage, plan)
    numbers = [number for number in range(plan.shards) if number in done]
    if address is None:
        checked = read_ahead(lambda number: check_shard(storage, plan, identity, number), numbers, THREADS)
    else:
        from factory.shards.check_on_ray import check_shards

        checked = check_shards(storage.url, numbers, address)
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
    notes: list[Problem] = []
    if not problems:
        sidecars = read_sidecars(storage)
        mixtures = progress(plan, sidecars).mixtures
        notes += [Problem("stats", f"mixed hardware: {line}") for line in mixtures]
        problems += _check_manifest(storage, plan, identity, sidecars)
    return Verdict(plan.items, accepted, rejected, plan.shards, len(done), tuple(problems), tuple(notes))


def check_shard(storage: Storage, plan: Plan, identity: Identity, number: int) -> ShardVerdict:
    """Checks one published shard. That a file of it is missing or cannot be read at all is a problem too."""
    try:
        rows, problems = _check(storage, plan, number, digest_at(identity, number))
    except OutputError as error:
        return ShardVerdict(number, 0, 0, (Problem(shard_name(number), str(error)),))
    accepted = sum(row["status"] == "accepted" for row in rows)
    return ShardVerdict(number, accepted, len(rows) - accepted, tuple(problems))


def _check(
    storage: Storage, plan: Plan, number: int, digest: str
) -> tuple[list[dict[str, object]], list[Problem]]:
    sidecar = read_sidecar(storage, number)
    index = storage.read(index_path(number))
    problems = []
    if hashlib.sha256(index).hexdigest() != sidecar.index.sha256:
        problems.append(Problem(index_path(number), "its sha256 is not that of the sidecar"))
    if sidecar.digest != digest:
        problems.append(Problem(stats_path(number), "it was made by another recipe (digest differs)"))
    rows = _index_rows(index, number, storage)
    keys = [str(row["key"]) for row in rows]
    if keys != [item.key for item in plan.shard(number)]:
        problems.append(
            Problem(index_path(number), "its keys are not those of the plan, in the plan's order")
        )
    accepted = {str(row["key"]): row for row in rows if row["status"] == "accepted"}
    for row in rows:
        if row["status"] == "rejected" and not row["reason"]:
            problems.append(Problem(f"{index_path(number)} {row['key']}", "rejected without a reason"))
    counts = {"planned": len(rows), "accepted": len(accepted), "rejected": len(rows) - len(accepted)}
    problems += [
        Problem(stats_path(number), f"{name} is {getattr(sidecar, name)}, the index has {count}")
        for name, count in counts.items()
        if getattr(sidecar, name) != count
    ]
    problems += _check_tar(storage, number, sidecar.tar, accepted, digest)
    return rows, problems


def read_index(storage: Storage, number: int) -> list[dict[str, object]]:
    """The rows of one shard's index.

    Raises:
        OutputError: it is missing or damaged.
    """
    return _index_rows(storage.read(index_path(number)), number, storage)


def _index_rows(data: bytes, number: int, storage: Storage) -> list[dict[str, object]]:
    try:
        table = pq.read_table(io.BytesIO(data))
    except (pa.ArrowException, OSError, ValueError) as error:
        raise OutputError(f"{storage.url}: {index_path(number)} is damaged: {error}") from error
    if table.schema.names != INDEX_SCHEMA.names:
        raise OutputError(f"{storage.url}: {index_path(number)} has other columns than this version writes")
    return list(table.to_pylist())


def _check_tar(
    storage: Storage,
    number: int,
    recorded: FileRecord | None,
    accepted: dict[str, dict[str, object]],
    digest: str,
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
                if key in found:
                    found[key].append("its files do not lie side by side")
                elif key in accepted:
                    found[key] = list(check_sample(key, accepted[key], files, digest))
                else:
                    found[key] = ["in the tar, but not accepted in the index"]
        except tarfile.TarError as error:
            unreadable = error
        source.drain()
    if source.bytes != recorded.bytes:
        yield Problem(path, f"{source.bytes} bytes, the sidecar says {recorded.bytes}")
    if source.sha256 != recorded.sha256:
        yield Problem(path, "its sha256 is not that of the sidecar: bytes were changed")
    if unreadable is not None:
        yield Problem(path, f"cannot be read as a tar: {unreadable}")
        return
    found.update(
        (key, list(check_sample(key, accepted[key], {}, digest))) for key in accepted.keys() - found.keys()
    )
    for key in (*sorted(found.keys() - accepted.keys()), *accepted):
        yield from (Problem(f"{path} {key}", what) for what in found[key])


def check_sample(
    key: str, row: Mapping[str, object], files: Mapping[str, bytes], digest: str
) -> Iterator[str]:
    """What is wrong with one sample.

    Args:
        row: of the index.
        files: content by extension.
        digest: of the identity that made its shard.
    """
    missing = [name for name in (*PICTURES, "json") if name not in files]
    if missing:
        yield f"missing {', '.join(missing)}"
    unknown = sorted(set(files) - {*PICTURES, *OPTIONAL_PICTURES, "json"})
    if unknown:
        yield f"unknown members {', '.join(unknown)}"
    sizes: dict[str, tuple[int, int]] = {}
    for name in (*PICTURES, *OPTIONAL_PICTURES):
        if name not in files:
            continue
        try:
            with Image.open(io.BytesIO(files[name]), formats=("PNG",)) as picture:
                picture.load()
                sizes[name] = picture.size
        except Exception as error:  # Pillow raises many kinds on damaged files
            yield f"{name} cannot be decoded: {error}"
    wanted = sizes.get("image.png")
    for name, size in sizes.items():
        if wanted is not None and size != wanted:
            yield f"{name} is {size[0]} x {size[1]} pixels, the image {wanted[0]} x {wanted[1]}"
    if "image.png" in files and hashlib.sha256(files["image.png"]).hexdigest() != row["image_sha256"]:
        yield "image.png is not the image of the index (sha256 differs)"
    if "json" in files:
        yield from _check_json(key, row, files["json"], digest)


def _check_json(key: str, row: Mapping[str, object], data: bytes, digest: str) -> Iterator[str]:
    try:
        about = json.loads(data)
    except ValueError as error:
        yield f"json cannot be read: {error}"
        return
    if set(about) != JSON_FIELDS:
        yield f"json has other fields than the schema: {sorted(set(about) ^ JSON_FIELDS)}"
        return
    if about["key"] != key:
        yield f"json says its key is {about['key']!r}"
    if about["recipe_digest"] != digest:
        yield "json says that another recipe made it (recipe_digest differs)"
    for name in ("seed", "inversion_steps"):
        if about[name] != row[name]:
            yield f"json has the {name} {about[name]}, the index {row[name]}"


def _check_plans(storage: Storage, plan: Plan) -> Iterator[Problem]:
    for version in plan.versions:
        _, planned = read_identity(storage, version.number)
        if _sha256(storage, version.path) != planned:
            yield Problem(version.path, "it is not the plan that was built upon (sha256 differs)")


def _check_manifest(
    storage: Storage, plan: Plan, identity: Identity, sidecars: Mapping[int, Sidecar]
) -> Iterator[Problem]:
    if not storage.exists(MANIFEST):
        return  # a run that is not finished has none yet
    try:
        there = json.loads(storage.read(MANIFEST))
        same = there == manifest(plan, identity, sidecars, progress(plan, sidecars), there["name"])
    except (ValueError, KeyError, TypeError):
        same = False
    if not same:
        yield Problem(MANIFEST, "it does not say what the sidecars say; the next build writes it anew")


def _strays(storage: Storage, plan: Plan, done: Iterable[int]) -> Iterator[Problem]:
    """Files that belong to no published shard."""
    numbers = set(done)
    for folder, suffix in (("shards", ".tar"), ("index", ".parquet"), ("stats", ".json")):
        for name in storage.names(folder):
            stem = name.removesuffix(suffix)
            if not (name.endswith(suffix) and stem.isdecimal() and int(stem) < plan.shards):
                yield Problem(f"{folder}/{name}", "not in the plan")
            elif int(stem) not in numbers:
                yield Problem(f"{folder}/{name}", "stands without its sidecar; the next build replaces it")


def _sha256(storage: Storage, path: str) -> str:
    with storage.open(path) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()  # type: ignore[arg-type]
