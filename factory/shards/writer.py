"""Writes a shard: tar, index, and last the sidecar that commits it. Equal samples give equal bytes."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from actors.batch import METRICS, Sample
from actors.errors import OutputError
from factory.schema import SCHEMA_VERSION, ShardOfSamples
from factory.shards.previews import NAMES, shrink
from factory.shards.records import (
    INDEX_SCHEMA,
    PREVIEWS_PER_REASON,
    Sidecar,
    index_path,
    read_sidecar,
    record_of,
    stats_path,
    tar_path,
)
from factory.storage import Storage

PREVIEW_SIDE = 256


@dataclass(frozen=True)
class Provenance:
    """How a shard was made.

    Attributes:
        digest, method, inference_steps: what every sample's JSON says.
        plan_sha256: of the plan that the shard belongs to, for its sidecar.
    """

    digest: str
    method: str
    inference_steps: int
    plan_sha256: str = ""


def write_shard(storage: Storage, shard: ShardOfSamples, how: Provenance, *, original: bool) -> Sidecar:
    """Publishes `shards/N.tar` (unless everything was rejected), `index/N.parquet` and `stats/N.json`, its sidecar.

    Args:
        original: whether each sample carries its clean image as `KEY.original.png`.
    """
    accepted = [sample for sample in shard.samples if not sample.rejected]
    tar = tar_bytes(accepted, how, original=original) if accepted else None
    index = index_bytes(shard.samples)
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
        plan_sha256=how.plan_sha256,
    )
    commit_shard(storage, sidecar, tar, index)
    return sidecar


def commit_shard(storage: Storage, sidecar: Sidecar, tar: bytes | None, index: bytes) -> None:
    """Publishes the files of a shard, its sidecar last.

    A shard that is committed already, for the same plan by the same recipe, is left as it is. Anything else under these
    names was left by a run that is gone, or that lost the lock, and is removed.
    """
    number = sidecar.shard
    files: dict[str, bytes | None] = {
        tar_path(number): tar,
        index_path(number): index,
        stats_path(number): sidecar.model_dump_json().encode(),
    }
    leftovers = False
    for path, data in files.items():
        if data is not None and storage.publish(path, data):
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


def tar_bytes(samples: list[Sample], how: Provenance, *, original: bool) -> bytes:
    """A WebDataset tar with normalised headers: no times, owners or modes of this machine."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for sample in samples:
            for extension, data in _members(sample, how, original=original):
                header = tarfile.TarInfo(f"{sample.key}.{extension}")
                header.size = len(data)
                tar.addfile(header, io.BytesIO(data))
    return buffer.getvalue()


def index_bytes(samples: list[Sample]) -> bytes:
    """The Parquet index of a shard."""
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
        else:
            assert sample.corrupted is not None
            row["image_bytes"] = len(sample.corrupted)
            row["image_sha256"] = hashlib.sha256(sample.corrupted).hexdigest()
        rows.append(row)
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema=INDEX_SCHEMA), buffer, compression="zstd")
    return buffer.getvalue()


def _members(sample: Sample, how: Provenance, *, original: bool) -> Iterator[tuple[str, bytes]]:
    assert sample.corrupted and sample.mask and sample.changed and sample.image, sample.key
    yield "image.png", sample.corrupted
    yield "mask.png", sample.mask
    yield "changed.png", sample.changed
    if original:
        yield "original.png", sample.image
    about = {
        "schema_version": SCHEMA_VERSION,
        "key": sample.key,
        "source": sample.source,
        "caption": sample.caption,
        "label": "unspecified",
        "method": how.method,
        "inference_steps": how.inference_steps,
        "inversion_steps": sample.inversion_steps,
        "seed": sample.seed,
        "attempts": sample.attempts,
        "verified": sample.verified,
        "recipe_digest": how.digest,
        **{name: float(sample.metrics[name]) for name in METRICS},
    }
    yield "json", _json(about)


def _previews(sample: Sample) -> dict[str, bytes | None]:
    """Small pictures of a rejected item, as far as it came."""
    pictures = dict(zip(NAMES, (sample.image, sample.corrupted, sample.mask, sample.changed), strict=True))
    return {f"preview_{name}": data for name, data in shrink(pictures, PREVIEW_SIDE).items()}


def _json(document: dict[str, object]) -> bytes:
    return json.dumps(document, sort_keys=True, allow_nan=False).encode()
