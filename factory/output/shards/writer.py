"""A shard of corrupted samples: its files, the rows of its index, and its sidecar."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace

from actors.batch import METRICS, Sample
from actors.errors import OutputError
from factory.output.identity import identity_path, read_identity
from factory.output.provenance import is_merged
from factory.output.schema import SCHEMA_VERSION, ShardOfSamples
from factory.output.shards.further import JUDGED, Further
from factory.output.shards.previews import PREVIEW_SIDE, previews_of
from factory.output.shards.publish import ShardFormat, commit_files, publish_shard
from factory.output.shards.records import (
    INDEX_SCHEMAS,
    PREVIEWS_PER_REASON,
    FileRecord,
    Sidecar,
    read_sidecar,
)
from factory.output.shards.sample_json import Provenance, SampleJson
from factory.store.storage import Storage

__all__ = ["FORMAT", "Provenance", "sample_files", "write_shard"]


def write_shard(storage: Storage, shard: ShardOfSamples, how: Provenance, *, original: bool) -> Sidecar:
    """Publishes `shards/N.tar` (unless everything was rejected), `index/N.parquet` and `stats/N.json`, its sidecar.

    Args:
        original: whether each sample carries its clean image as `KEY.original.png`.
    """
    accepted = [sample for sample in shard.samples if not sample.rejected]

    def sidecar(tar: FileRecord | None, index: FileRecord) -> Sidecar:
        return Sidecar(
            schema_version=SCHEMA_VERSION,
            shard=shard.number,
            digest=how.digest,
            planned=len(shard.samples),
            accepted=len(accepted),
            rejected=len(shard.samples) - len(accepted),
            unverified=sum(not sample.verified for sample in accepted),
            reasons=dict(
                sorted(Counter(sample.reason for sample in shard.samples if sample.rejected).items())
            ),
            unet_rows=sum(sample.unet_rows for sample in shard.samples),
            tar=tar,
            index=index,
            seconds={stage: round(seconds, 3) for stage, seconds in shard.seconds.items()},
            hardware=shard.hardware,
            plan_sha256=how.plan_sha256,
        )

    return publish_shard(
        storage,
        _rows(shard.samples, how.further),
        {sample.key: sample_files(sample, how, original=original) for sample in accepted},
        shard_format=replace(FORMAT, schema=INDEX_SCHEMAS[how.further]),
        mark=sidecar,
    )


def commit_shard(storage: Storage, sidecar: Sidecar, tar: bytes | None, index: bytes) -> None:
    """Publish the files of a shard that are written already; see `factory.output.shards.publish.commit_files`."""
    commit_files(storage, sidecar, tar, index, FORMAT)


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


def _same_work(one: Sidecar, other: Sidecar) -> bool:
    return all(getattr(one, name) == getattr(other, name) for name in ("digest", "plan_sha256", "planned"))


FORMAT = ShardFormat(INDEX_SCHEMAS[Further()], read_sidecar, _same_work, _still_wanted)
"""Of the shards of a build. The schema of the index is that of the recipe, or of an import."""


def sample_files(sample: Sample, how: Provenance, *, original: bool) -> dict[str, bytes]:
    """The files of an accepted sample by extension, in the order of `factory.output.shards.records.MEMBERS`."""
    assert sample.corrupted and sample.mask and sample.changed and sample.image, sample.key
    return {
        "image.png": sample.corrupted,
        "mask.png": sample.mask,
        "changed.png": sample.changed,
        **({JUDGED: _judged(sample)} if how.further.judge else {}),
        **({"original.png": sample.image} if original else {}),
        "json": SampleJson.of(sample, how).encoded,
    }


def _judged(sample: Sample) -> bytes:
    assert sample.judged, sample.key
    return sample.judged


def _rows(samples: list[Sample], further: Further) -> Iterator[dict[str, object]]:
    """The rows of the index, without the columns of files."""
    shown: Counter[str] = Counter()
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
            **{name: sample.metrics.get(name) for name in (*METRICS, *further.figures)},
            **{name: getattr(sample, name) for name in further.counts},
        }
        if sample.rejected:
            shown[sample.reason] += 1
            if shown[sample.reason] <= PREVIEWS_PER_REASON:
                row.update(_previews(sample))
        yield row


def _previews(sample: Sample) -> dict[str, bytes | None]:
    """Previews of a rejected item: of the images that it had when it was rejected."""
    return {f"preview_{name}": data for name, data in previews_of(sample, PREVIEW_SIDE).items()}
