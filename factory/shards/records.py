"""Where the files of a shard lie, what its sidecar says, and the columns of its index."""

from __future__ import annotations

import hashlib

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, ValidationError

from actors.batch import METRICS
from actors.errors import OutputError
from factory.plan import shard_name
from factory.shards.previews import NAMES
from factory.storage import Storage

PREVIEWS_PER_REASON = 4
"""Rejected items of one reason in one shard whose small pictures the index keeps, for the gallery."""

INDEX_SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("source", pa.string()),
        ("caption", pa.string()),
        ("status", pa.string()),
        ("stage", pa.string()),
        ("reason", pa.string()),
        ("detail", pa.string()),
        ("verified", pa.bool_()),
        ("attempts", pa.int32()),
        ("inversion_steps", pa.int32()),
        ("seed", pa.int64()),
        ("unet_rows", pa.int32()),
        *[(name, pa.float64()) for name in METRICS],
        ("image_bytes", pa.int64()),
        ("image_sha256", pa.string()),
        *[(f"preview_{name}", pa.binary()) for name in NAMES],
    ]
)
"""A row per planned item, in the plan's order; the rejects are the rows whose status is `rejected`."""


def tar_path(number: int) -> str:
    return f"shards/{shard_name(number)}.tar"


def index_path(number: int) -> str:
    return f"index/{shard_name(number)}.parquet"


def stats_path(number: int) -> str:
    return f"stats/{shard_name(number)}.json"


class FileRecord(BaseModel):
    """Size and digest of a file as it was written."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    bytes: int
    sha256: str


def record_of(data: bytes) -> FileRecord:
    """The record of a file with this content."""
    return FileRecord(bytes=len(data), sha256=hashlib.sha256(data).hexdigest())


class Sidecar(BaseModel):
    """What `stats/N.json` says of a shard. It is written last: a shard with a sidecar is done.

    Attributes:
        digest: of the identity that made the shard.
        plan_sha256: of the plan that it was made for; empty in outputs of earlier versions.
        planned, accepted, rejected: items; `unverified` of the accepted ones failed the verifier and were kept.
        reasons: rejected items by reason.
        unet_rows: UNet evaluations spent.
        tar: None where everything was rejected; readers choke on empty tars.
        seconds: wall time by stage.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    schema_version: int
    shard: int
    digest: str
    planned: int
    accepted: int
    rejected: int
    unverified: int
    reasons: dict[str, int]
    unet_rows: int
    tar: FileRecord | None
    index: FileRecord
    seconds: dict[str, float]
    plan_sha256: str = ""


def read_sidecar(storage: Storage, number: int) -> Sidecar:
    """Raises OutputError when the sidecar is missing or damaged."""
    path = stats_path(number)
    try:
        sidecar = Sidecar.model_validate_json(storage.read(path))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise OutputError(f"{storage.url}: {path} is damaged: {where} {first['msg']}") from error
    if sidecar.shard != number:
        raise OutputError(f"{storage.url}: {path} is of shard {sidecar.shard}")
    return sidecar
