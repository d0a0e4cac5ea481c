"""Writes a shard: tar, index, and last the sidecar that commits it. Equal samples give equal bytes."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from functools import partial

import pyarrow as pa
import pyarrow.parquet as pq

from actors.batch import METRICS, Sample
from actors.errors import OutputError
from factory.output.identity import identity_path, read_identity
from factory.output.provenance import is_merged
from factory.output.schema import SCHEMA_VERSION, ShardOfSamples
from factory.output.shards.previews import NAMES, PREVIEW_SIDE, shrink
from factory.output.shards.records import (
    INDEX_SCHEMA,
    PREVIEWS_PER_REASON,
    Sidecar,
    columns_of,
    index_path,
    read_sidecar,
    record_of,
    stats_path,
    tar_path,
)
from factory.output.shards.sample_json import Provenance, SampleJson
from factory.output.shards.tar import write_tar
from factory.store.storage import Storage

__all__ = ["Provenance", "sample_files", "write_shard"]


def write_shard(storage: Storage, shard: ShardOfSamples, how: Provenance, *, original: bool) -> Sidecar:
    """Publishes `shards/N.tar` (unless everything was rejected), `index/N.parquet` and `stats/N.json`, its sidecar.

    Args:
        original: whether each sample carries its clean image as `KEY.original.png`.
    """
    accepted = [sample for sample in shard.samples if not sample.rejected]
    files = {sample.key: sample_files(sample, how, original=original) for sample in accepted}
    tar = write_tar(files) if files else None
    index = _index_bytes(shard.samples, files)
    sidecar = Sidecar(
        schema_version=SCHEMA_VERSION,
        shard=shard.number,
        digest=how.digest,
        planned=len(shard.samples),
        accepted=len(accepted),
        rejected=len(shard.samples) - len(accepted),
        unverified=sum(not sample.verified for sample in accepted),
        reasons=dict(sorted(Counter(sample.reason for sample in shard.samples if sample.rejected).items())),
        unet_rows=sum(sample.unet_rows for sample in shard.samples),
        tar=None if tar is None else record_of(tar),
        index=record_of(index),
        seconds={stage: round(seconds, 3) for stage, seconds in shard.seconds.items()},
        hardware=shard.hardware,
        plan_sha256=how.plan_sha256,
    )
    commit_shard(storage, sidecar, tar, index)
    return sidecar


def commit_shard(storage: Storage, sidecar: Sidecar, tar: bytes | None, index: bytes) -> None:
    """Publishes the files of a shard, its sidecar last.

    A shard that is committed already, for the same plan by the same recipe, is left as it is. Anything else under these
    names was left by a run that is gone, or that lost the lock, and is removed.

    Where this run loses the lock in the middle, a file that is already there stays if the output is still that of the
    same recipe and plan: the run that has taken over counts on it.
    """
    number = sidecar.shard
    stays = partial(_still_wanted, storage, sidecar)
    files: dict[str, bytes | None] = {
        tar_path(number): tar,
        index_path(number): index,
        stats_path(number): sidecar.encoded,
    }
    leftovers = False
    for path, data in files.items():
        if data is not None and storage.publish(path, data, stays=stays):
            continue
        if data is None and not storage.exists(path):
            continue
        if not leftovers:
            if _committed(storage, sidecar):
                return
            storage.remove(stats_path(number))
            leftovers = True
        if data is None:
            storage.remove(path)
        else:
            storage.settle(path, data)


def _still_wanted(storage: Storage, sidecar: Sidecar) -> bool:
    """Whether the output, or a version of it, is that of the shard's recipe and plan."""
    version = 1
    with suppress(OutputError):
        while storage.exists(identity_path(version)):
            identity, plan_sha256 = read_identity(storage, version)
            parts = identity.content["parts"] if is_merged(identity) else ()
            digests = {identity.digest, *(part["digest"] for part in parts)}
            if plan_sha256 == sidecar.plan_sha256 and sidecar.digest in digests:
                return True
            version += 1
    return False


def _committed(storage: Storage, sidecar: Sidecar) -> bool:
    """Whether the same recipe and plan have committed the shard, and its files are as its sidecar says."""
    try:
        committed = read_sidecar(storage, sidecar.shard)
        names = ("digest", "plan_sha256", "planned")
        if any(getattr(committed, name) != getattr(sidecar, name) for name in names):
            return False
        files = [(index_path(sidecar.shard), committed.index)]
        if committed.tar is not None:
            files.append((tar_path(sidecar.shard), committed.tar))
        elif storage.exists(tar_path(sidecar.shard)):
            return False
        return all(record_of(storage.read(path)) == record for path, record in files)
    except OutputError:
        return False


def sample_files(sample: Sample, how: Provenance, *, original: bool) -> dict[str, bytes]:
    """The files of an accepted sample by extension, in the order of `factory.output.shards.records.MEMBERS`."""
    assert sample.corrupted and sample.mask and sample.changed and sample.image, sample.key
    return {
        "image.png": sample.corrupted,
        "mask.png": sample.mask,
        "changed.png": sample.changed,
        **({"original.png": sample.image} if original else {}),
        "json": SampleJson.of(sample, how).encoded,
    }


def _index_bytes(samples: list[Sample], files: Mapping[str, Mapping[str, bytes]]) -> bytes:
    """The Parquet index of a shard. `files` of the accepted samples by key."""
    shown: Counter[str] = Counter()
    rows = []
    for sample in samples:
        row: dict[str, object] = {
            "key": sample.key,
            "source": sample.source,
            "caption": sample.caption,
            "status": "rejected" if sample.rejected else "accepted",
            "stage": sample.stage,
            "reason": sample.reason,
            "detail": sample.detail,
            "verified": sample.verified,
            "attempts": sample.attempts,
            "inversion_steps": sample.inversion_steps,
            "seed": sample.seed,
            "unet_rows": sample.unet_rows,
            **{name: sample.metrics.get(name) for name in METRICS},
        }
        if sample.rejected:
            shown[sample.reason] += 1
            if shown[sample.reason] <= PREVIEWS_PER_REASON:
                row.update(_previews(sample))
        for member, data in files.get(sample.key, {}).items():
            record = record_of(data)
            row.update(zip(columns_of(member), (record.bytes, record.sha256), strict=True))
        rows.append(row)
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema=INDEX_SCHEMA), buffer, compression="zstd")
    return buffer.getvalue()


def _previews(sample: Sample) -> dict[str, bytes | None]:
    """Small pictures of a rejected item, as far as it came."""
    pictures = dict(zip(NAMES, (sample.image, sample.corrupted, sample.mask, sample.changed), strict=True))
    return {f"preview_{name}": data for name, data in shrink(pictures, PREVIEW_SIDE).items()}
