"""The tools of a forger: change a file of an output, and refit as many of the records about it as he knows of."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from actors.images import encode_image, encode_mask
from factory.output.rebuild import rebuild
from factory.output.shards.records import index_path, stats_path, tar_path
from factory.store.storage import Storage
from tests.factory.maintain.outputs import by_hand, sample

FIRST, SECOND, REJECTED, THIRD = "item-0", "item-1", "item-2", "item-3"
"""Keys of shard 0."""

TAR, INDEX, SIDECAR = tar_path(0), index_path(0), stats_path(0)


@dataclass
class Member:
    """A member of a tar, with what its header has beside name and size."""

    name: str
    data: bytes
    header: dict[str, Any]

    @classmethod
    def plain(cls, name: str, data: bytes, **header: Any) -> Member:
        return cls(name, data, header)


def sound_output(folder: Path) -> Storage:
    """Two shards of four items; the third item of the first is rejected."""
    items = [
        sample(f"item-{n}", f"memory://{n}.png", rejected="unchanged" if n == 2 else "") for n in range(8)
    ]
    return by_hand(folder, [items[:4], items[4:]])


def members(storage: Storage, shard: int = 0) -> list[Member]:
    with tarfile.open(fileobj=io.BytesIO(storage.read(tar_path(shard)))) as tar:
        return [Member.plain(one.name, tar.extractfile(one).read()) for one in tar]  # type: ignore[union-attr]


def packed(found: list[Member]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for one in found:
            header = tarfile.TarInfo(one.name)
            for name, value in one.header.items():
                setattr(header, name, value)
            header.size = len(one.data)
            tar.addfile(header, io.BytesIO(one.data))
    return buffer.getvalue()


def change_tar(
    storage: Storage, change: Callable[[dict[str, bytes]], None], *, index: bool = False, shard: int = 0
) -> None:
    """Changes files of a shard by name; the sidecar is refitted, and with `index` the hashes in the index, too."""
    files = {one.name: one.data for one in members(storage, shard)}
    change(files)
    put_tar(storage, packed([Member.plain(name, data) for name, data in files.items()]), shard)
    if index:
        change_index(storage, lambda rows: refit_hashes(rows, files), shard=shard)


def put_tar(storage: Storage, data: bytes, shard: int = 0) -> None:
    storage.replace(tar_path(shard), data)
    refit(storage, shard)


def change_index(
    storage: Storage,
    change: Callable[[list[dict[str, Any]]], None],
    schema: pa.Schema | None = None,
    *,
    shard: int = 0,
) -> None:
    table = pq.read_table(io.BytesIO(storage.read(index_path(shard))))
    rows = table.to_pylist()
    change(rows)
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema=schema or table.schema), buffer)
    storage.replace(index_path(shard), buffer.getvalue())
    refit(storage, shard)


def refit_hashes(rows: list[dict[str, Any]], files: dict[str, bytes]) -> None:
    for row in rows:
        for column in [name for name in row if name.endswith("_sha256") and row[name] is not None]:
            member = column.removesuffix("_sha256")
            data = files.get(f"{row['key']}.{member}" + ("" if member == "json" else ".png"), b"")
            row[column] = hashlib.sha256(data).hexdigest()
            row[f"{member}_bytes"] = len(data)


def change_json(storage: Storage, key: str, change: Callable[[dict[str, Any]], Any]) -> None:
    """Changes a sample's JSON; sidecar and hashes in the index are refitted."""

    def rewritten(files: dict[str, bytes]) -> None:
        about = json.loads(files[f"{key}.json"])
        files[f"{key}.json"] = json.dumps(change(about) or about, sort_keys=True).encode()

    change_tar(storage, rewritten, index=True)


def change_both(storage: Storage, key: str, **values: Any) -> None:
    """Changes fields of a sample in its JSON and in the index; everything is refitted."""

    def rewritten(files: dict[str, bytes]) -> None:
        about = {**json.loads(files[f"{key}.json"]), **values}
        files[f"{key}.json"] = json.dumps(about, sort_keys=True).encode()

    change_index(storage, lambda rows: next(row for row in rows if row["key"] == key).update(values))
    change_tar(storage, rewritten, index=True)


def change_sidecar(storage: Storage, change: Callable[[dict[str, Any]], None], shard: int = 0) -> None:
    document = json.loads(storage.read(stats_path(shard)))
    change(document)
    storage.replace(stats_path(shard), json.dumps(document, separators=(",", ":")).encode())


def change_plan(
    storage: Storage, change: Callable[[list[dict[str, Any]]], None], *, sha256: bool = True
) -> None:
    """Changes rows of the plan, and its sha256 in the identity, which is not in the digest."""
    file = pq.ParquetFile(io.BytesIO(storage.read("plan.parquet")))
    rows = file.read().to_pylist()
    change(rows)
    buffer = io.BytesIO()
    with pq.ParquetWriter(buffer, file.schema_arrow) as writer:
        writer.write_table(pa.Table.from_pylist(rows, schema=file.schema_arrow))
        writer.add_key_value_metadata({b"flawforge": file.metadata.metadata[b"flawforge"]})
    storage.replace("plan.parquet", buffer.getvalue())
    if sha256:
        found = hashlib.sha256(buffer.getvalue()).hexdigest()
        fitting: Callable[[dict[str, Any]], None] = lambda one: one.update(plan_sha256=found)  # noqa: E731
        change_document(storage, "identity.json", fitting, indent=1, sort_keys=True)


def refit(storage: Storage, shard: int = 0) -> None:
    """Gives the sidecar size and sha256 of tar and index as they are now, and writes manifest and card anew."""

    def change(document: dict[str, Any]) -> None:
        for name, path in (("tar", tar_path(shard)), ("index", index_path(shard))):
            if document[name] is None:
                continue  # a shard of rejects has no tar
            data = storage.read(path)
            document[name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}

    change_sidecar(storage, change, shard)
    rebuild(storage)


def change_document(
    storage: Storage, path: str, change: Callable[[dict[str, Any]], None], **form: Any
) -> None:
    document = json.loads(storage.read(path))
    change(document)
    storage.replace(path, json.dumps(document, **form).encode())


def other_mask(share: float = 0.3) -> bytes:
    return encode_mask(np.random.default_rng(99).random((16, 16)) < share)


def other_image() -> bytes:
    return encode_image(np.random.default_rng(99).integers(0, 255, (16, 16, 3), dtype=np.uint8))
