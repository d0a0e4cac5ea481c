"""The shards of a finished output of the factory, from its manifest alone: nothing is listed, no shard is opened."""

from __future__ import annotations

import hashlib
from typing import Annotated
from urllib.parse import urlsplit, urlunsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from actors.errors import Reject, TrainingError
from actors.redaction import redact
from factory.output.identity import identity_path
from factory.output.manifest import PATH as MANIFEST
from factory.output.plan import shard_name
from factory.output.schema import SCHEMA_VERSION
from factory.output.shards.records import tar_path
from factory.store import remote
from train.data.data_set import Shard

_Count = Annotated[int, Field(ge=0, lt=1 << 50)]


class _ShardEntry(BaseModel):
    model_config = ConfigDict(strict=True)

    name: str
    url: str | None
    accepted: _Count
    bytes: _Count
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None


class _Totals(BaseModel):
    model_config = ConfigDict(strict=True)

    accepted: _Count


class _Versioned(BaseModel):
    model_config = ConfigDict(strict=True)

    schema_version: int


class _Manifest(_Versioned):
    complete: bool
    totals: _Totals
    shards: list[_ShardEntry]


def below(url: str, path: str) -> str:
    """The URL of a file in a folder. A web address keeps its query, which may sign both."""
    if url.startswith(("http://", "https://")):
        parts = urlsplit(url)
        return urlunsplit(parts._replace(path=f"{parts.path.rstrip('/')}/{path}"))
    return f"{url.rstrip('/')}/{path}"


def read_output(url: str) -> tuple[tuple[Shard, ...], str] | None:
    """The shards of an output and the digest of their content, by one read.

    Returns:
        None where the folder holds no output.

    Raises:
        TrainingError: the output is not finished, its manifest is damaged, or it is of another version of the layout.
        SourceError: the place may not be read.
    """
    where = f"{redact(url)}: {MANIFEST}"
    data = _read(below(url, MANIFEST), where)
    if data is None:
        if _exists(below(url, identity_path(1))):
            raise TrainingError(
                f"{redact(url)}: the output is not finished, it has no {MANIFEST}; finish it with `flawforge build`, "
                "or write the manifest with `flawforge manifest`"
            )
        return None
    manifest = _parsed(data, where)
    shards, total = [], hashlib.sha256()
    for number, entry in enumerate(manifest.shards):
        has_tar = entry.accepted > 0
        if (
            entry.name != shard_name(number)
            or entry.url != (tar_path(number) if has_tar else None)
            or (entry.sha256 is not None) != has_tar
            or (entry.bytes > 0) != has_tar
        ):
            raise _damaged(where, f"its shard {number} is another one, or its fields do not fit each other")
        shards.append(Shard(tar_path(number), entry.accepted, entry.bytes))
        total.update(f"{entry.accepted} {entry.bytes} {entry.sha256}\n".encode())
    if sum(shard.samples for shard in shards) != manifest.totals.accepted:
        raise _damaged(where, "its shards do not have as many samples as its totals")
    return tuple(shards), total.hexdigest()


def _parsed(data: bytes, where: str) -> _Manifest:
    try:
        version = _Versioned.model_validate_json(data).schema_version
        if version != SCHEMA_VERSION:
            raise TrainingError(
                f"{where} has schema version {version}, this Flawforge reads {SCHEMA_VERSION} only; use the version "
                "that made the output, build anew, or name the tars themselves (URL/shards/*.tar)"
            )
        manifest = _Manifest.model_validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"])) or "the document"
        raise _damaged(where, f"{field}: {first['msg']}") from error
    if not manifest.complete:
        raise TrainingError(
            f"{where} is of an output that is not finished; finish it with `flawforge build`, and train then"
        )
    return manifest


def _damaged(where: str, what: str) -> TrainingError:
    return TrainingError(
        f"{where} is damaged, or not of a Flawforge output: {what}; `flawforge manifest` writes it anew. Foreign tars "
        "in the same folder are named as URL/*.tar"
    )


def _read(url: str, where: str) -> bytes | None:
    files, path = remote.open_store(url)
    try:
        info = remote.info_of(files, path)
        if info is None or info["type"] != "file":
            return None
        if (info.get("size") or 0) > remote.LARGEST_FILE:
            raise TrainingError(
                f"{where} has {info['size']:,} bytes; at most {remote.LARGEST_FILE:,} are read"
            )
        return remote.read_file(files, info)
    except Reject as why:
        raise TrainingError(f"{where} cannot be read: {why.detail}") from None
    except OSError as error:
        raise TrainingError(f"{where} cannot be read: {error}") from error


def _exists(url: str) -> bool:
    files, path = remote.open_store(url)
    try:
        return remote.info_of(files, path) is not None
    except OSError as error:
        raise TrainingError(f"{redact(url)} cannot be looked up: {error}") from error
