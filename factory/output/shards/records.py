"""Where the files of a shard are, the fields of its sidecar, and the columns of its index."""

from __future__ import annotations

import hashlib
from itertools import chain

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, ValidationError

from actors.batch import METRICS
from actors.errors import OutputError
from factory.output.plan import shard_name
from factory.output.schema import SCHEMA_VERSION
from factory.output.shards.further import JUDGED, Further
from factory.output.shards.previews import NAMES
from factory.store.storage import Storage

PREVIEWS_PER_REASON = 4
"""Rejected items of one reason in one shard whose previews the index keeps, for the gallery."""

MEMBERS = ("image.png", "mask.png", "changed.png", JUDGED, "original.png", "json")
"""Files of a sample by extension, in the order in which a tar holds them. The judged map is absent without a judge, the
original without `output.original`."""

USUAL_MEMBERS = tuple(member for member in MEMBERS if member != JUDGED)
"""Members of which every index has size and sha256."""


def columns_of(member: str) -> tuple[str, str]:
    """The columns of the index with a member's size in bytes and its sha256: `mask_bytes` and `mask_sha256`."""
    stem = member.removesuffix(".png")
    return f"{stem}_bytes", f"{stem}_sha256"


ITEM_COLUMNS = tuple(
    (name, pa.string()) for name in ("key", "source", "caption", "status", "stage", "reason", "detail")
)
"""Columns that the index of every output begins with: an item and its fate."""


def index_schema(further: Further) -> pa.Schema:
    """The columns of an index: a row per planned item, in the plan's order, the rejected ones among them."""
    members = MEMBERS if further.judge else USUAL_MEMBERS
    return pa.schema(
        [
            *ITEM_COLUMNS,
            ("verified", pa.bool_()),
            ("attempts", pa.int32()),
            ("inversion_steps", pa.int32()),
            ("seed", pa.int64()),
            ("unet_rows", pa.int32()),
            *[(name, pa.float64()) for name in METRICS],
            *[(name, pa.float64()) for name in further.figures],
            *[(name, pa.int32()) for name in further.counts],
            *chain.from_iterable(
                zip(columns_of(member), (pa.int64(), pa.string()), strict=True) for member in members
            ),
            *[(f"preview_{name}", pa.binary()) for name in preview_names(further)],
        ]
    )


def preview_names(further: Further) -> tuple[str, ...]:
    """The previews of a rejected item, of `NAMES`."""
    return NAMES if further.judge else tuple(name for name in NAMES if f"{name}.png" != JUDGED)


INDEX_SCHEMAS = {
    further: index_schema(further)
    for further in (Further(judge, share) for judge in (False, True) for share in (False, True))
}
"""All that are written."""


def tar_path(number: int) -> str:
    return f"shards/{shard_name(number)}.tar"


def index_path(number: int) -> str:
    return f"index/{shard_name(number)}.parquet"


def stats_path(number: int) -> str:
    return f"stats/{shard_name(number)}.json"


class FileRecord(BaseModel):
    """Size and digest of a file as it was written."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    bytes: int
    sha256: str


def record_of(data: bytes) -> FileRecord:
    """The record of a file with this content."""
    return FileRecord(bytes=len(data), sha256=hashlib.sha256(data).hexdigest())


class Sidecar(BaseModel):
    """The content of `stats/N.json`. It is written last: a shard with a sidecar is done.

    Attributes:
        digest: of the identity that made the shard.
        plan_sha256: of the plan that it was made for; empty in outputs of earlier versions.
        planned, accepted, rejected: items; `unverified` of the accepted ones failed the verifier and were kept.
        reasons: rejected items by reason.
        unet_rows: UNet evaluations spent.
        tar: None where everything was rejected; readers choke on empty tars.
        seconds: wall time by stage.
        hardware: class of the machine by stage, of the stages that compute; see `actors.hardware`. Sidecars of
            earlier versions have none.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

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
    hardware: dict[str, dict[str, str]] = {}
    plan_sha256: str = ""

    @property
    def encoded(self) -> bytes:
        """The bytes of the file: no other form of the same content is written."""
        return self.model_dump_json().encode()


class _Versioned(BaseModel):
    """The field that sidecars of all versions of the layout have."""

    model_config = ConfigDict(strict=True)

    schema_version: int


def read_sidecar(storage: Storage, number: int) -> Sidecar:
    """The sidecar of a shard.

    Raises:
        OutputError: it is missing, damaged, of another shard, or of another version of the layout.
    """
    path = stats_path(number)
    data = storage.read(path)
    try:
        version = _Versioned.model_validate_json(data).schema_version
        if version != SCHEMA_VERSION:
            raise OutputError(
                f"{storage.url}: {path} has schema version {version}, this Flawforge reads {SCHEMA_VERSION} only; "
                "use the version that made the output (identity.json names it), or build anew"
            )
        sidecar = Sidecar.model_validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise OutputError(f"{storage.url}: {path} is damaged: {where} {first['msg']}") from error
    if sidecar.shard != number:
        raise OutputError(f"{storage.url}: {path} is of shard {sidecar.shard}")
    return sidecar
