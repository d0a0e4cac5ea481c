"""Where the files of a shard lie, and the columns of its index."""

from __future__ import annotations

import pyarrow as pa

from actors.batch import METRICS
from factory.plan import shard_name
from factory.shards.previews import NAMES

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
