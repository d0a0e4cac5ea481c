"""Taking items out of a shard: its tar, index and sidecar written anew, as the writer would have without them."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Collection

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from factory.output.shards.records import Sidecar, record_of
from factory.output.shards.tar import samples, write_tar


def leave_out(
    tar: bytes | None, index: bytes, sidecar: Sidecar, keys: Collection[str]
) -> tuple[bytes | None, bytes, Sidecar]:
    """The shard without some of its items. What stays of every sample stays as it is, byte for byte.

    Args:
        tar: None where everything was rejected.
        index: Parquet.
        keys: of items to leave out, accepted or rejected.

    Returns:
        Tar (None where no accepted sample is left), index and sidecar.
    """
    table = pq.read_table(io.BytesIO(index))
    table = table.filter(pc.invert(pc.is_in(table["key"], pa.array(keys, pa.string()))))
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    rows = table.select(["status", "reason", "verified", "unet_rows"]).to_pylist()
    rejected = [row for row in rows if row["status"] == "rejected"]
    accepted = [row for row in rows if row["status"] != "rejected"]
    content = None
    if tar is not None and accepted:
        content = write_tar({key: files for key, files in samples(io.BytesIO(tar)) if key not in keys})
    changed = {
        "planned": len(rows),
        "accepted": len(accepted),
        "rejected": len(rejected),
        "unverified": sum(not row["verified"] for row in accepted),
        "reasons": dict(sorted(Counter(row["reason"] for row in rejected).items())),
        "unet_rows": sum(row["unet_rows"] for row in rows),
        "tar": None if content is None else record_of(content),
        "index": record_of(buffer.getvalue()),
    }
    return content, buffer.getvalue(), sidecar.model_copy(update=changed)
