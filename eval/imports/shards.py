"""The shards of an imported set: those of a build, with its own columns in the index, and no figures of a verifier."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain

import pyarrow as pa

from eval.imports.labelled_set import JSON, ImportedSample
from factory.output.schema import SCHEMA_VERSION
from factory.output.shards.publish import publish_shard
from factory.output.shards.records import ITEM_COLUMNS, USUAL_MEMBERS, FileRecord, Sidecar, columns_of
from factory.output.shards.writer import FORMAT
from factory.store.storage import Storage

_TYPES = {"string": pa.string(), "int32": pa.int32(), "float64": pa.float64()}


def index_schema(members: Sequence[str], columns: Mapping[str, str]) -> pa.Schema:
    """The columns of an index: those of a build that make sense here, those of the set, sizes and hashes of files.

    Args:
        members: of `LabelledSet`.
        columns: of `LabelledSet`.
    """
    # Readers of our shards look for the sizes of all members of a build; the absent ones are null.
    files = [*members, *(member for member in USUAL_MEMBERS if member not in (*members, JSON)), JSON]
    return pa.schema(
        [
            *ITEM_COLUMNS,
            *((name, _TYPES[kind]) for name, kind in columns.items()),
            *chain.from_iterable(
                zip(columns_of(member), (pa.int64(), pa.string()), strict=True) for member in files
            ),
        ]
    )


def write_imported(
    storage: Storage,
    number: int,
    samples: Sequence[ImportedSample],
    *,
    schema: pa.Schema,
    digest: str,
    plan_sha256: str,
    seconds: Mapping[str, float],
    hardware: Mapping[str, dict[str, str]] | None = None,
) -> Sidecar:
    """Publishes `shards/N.tar` (unless everything was rejected), `index/N.parquet` and `stats/N.json`.

    Args:
        storage: the output, of the run that holds the lock.
        number: of the shard.
        samples: every planned item, in the plan's order.
        schema: see `index_schema`.
        digest: of the import's identity.
        plan_sha256: of the plan.
        seconds: by stage.
        hardware: class of the machine by stage, of the stages that compute.
    """
    reasons = Counter(sample.reason for sample in samples if sample.reason)

    def sidecar(tar: FileRecord | None, index: FileRecord) -> Sidecar:
        return Sidecar(
            schema_version=SCHEMA_VERSION,
            shard=number,
            digest=digest,
            planned=len(samples),
            accepted=len(samples) - reasons.total(),
            rejected=reasons.total(),
            unverified=0,
            reasons=dict(sorted(reasons.items())),
            unet_rows=0,
            tar=tar,
            index=index,
            seconds={stage: round(spent, 3) for stage, spent in seconds.items()},
            hardware=dict(hardware or {}),
            plan_sha256=plan_sha256,
        )

    return publish_shard(
        storage,
        _rows(samples),
        {sample.key: _files(sample, digest) for sample in samples if not sample.reason},
        shard_format=replace(FORMAT, schema=schema),
        mark=sidecar,
    )


def _files(sample: ImportedSample, digest: str) -> dict[str, bytes]:
    document = {
        "schema_version": SCHEMA_VERSION,
        "key": sample.key,
        "source": sample.source,
        "caption": sample.caption,
        "recipe_digest": digest,
        **sample.fields,
    }
    return {**sample.files, JSON: json.dumps(document, sort_keys=True, allow_nan=False).encode()}


def _rows(samples: Sequence[ImportedSample]) -> Iterator[dict[str, object]]:
    """The rows of the index, without the columns of files."""
    for sample in samples:
        yield {
            "key": sample.key,
            "source": sample.source,
            "caption": sample.caption,
            "status": "rejected" if sample.reason else "accepted",
            "stage": sample.stage if sample.reason else "",
            "reason": sample.reason,
            "detail": sample.detail,
            **sample.columns,
        }
