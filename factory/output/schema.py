"""How samples travel between stages: one Arrow row per shard, so that a shard is never split or merged."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields

import pyarrow as pa

from actors.batch import Sample

SCHEMA_VERSION = 3
"""Version of the output's layout and of the fields in it."""

_TYPES = {
    "str": pa.large_string(),
    "bytes | None": pa.large_binary(),
    "int": pa.int64(),
    "bool": pa.bool_(),
    "dict[str, float]": pa.large_string(),
}
_SAMPLE = pa.struct([pa.field(one.name, _TYPES[str(one.type)]) for one in fields(Sample)])
SHARD_ROW = pa.schema(
    [
        pa.field("shard", pa.int64()),
        pa.field("seconds", pa.large_string()),
        pa.field("hardware", pa.large_string()),
        pa.field("samples", pa.list_(_SAMPLE)),
    ]
)


@dataclass
class ShardOfSamples:
    """All planned items of one shard, between two stages.

    Attributes:
        number: the shard's number in the plan.
        samples: every planned item, in the plan's order.
        seconds: wall time by stage so far.
        hardware: class of the machine by stage, of the stages that compute; see `actors.hardware`.
    """

    number: int
    samples: list[Sample]
    seconds: dict[str, float] = field(default_factory=dict)
    hardware: dict[str, dict[str, str]] = field(default_factory=dict)


def to_table(shard: ShardOfSamples) -> pa.Table:
    """One row in `SHARD_ROW`."""
    rows = [
        {
            one.name: json.dumps(value) if isinstance(value := getattr(sample, one.name), Mapping) else value
            for one in fields(Sample)
        }
        for sample in shard.samples
    ]
    columns: dict[str, Sequence[object]] = {
        "shard": [shard.number],
        "seconds": [json.dumps(shard.seconds)],
        "hardware": [json.dumps(shard.hardware)],
        "samples": [rows],
    }
    return pa.table(columns, schema=SHARD_ROW)


def from_table(table: pa.Table) -> ShardOfSamples:
    """The shard in a table of one row.

    Raises:
        AssertionError: the table has not one row; Ray has split or merged shards, which must never happen.
    """
    assert table.num_rows == 1, f"expected one shard, found {table.num_rows} rows"
    row = table.slice(0, 1).to_pylist()[0]
    samples = [Sample(**{**one, "metrics": json.loads(one["metrics"])}) for one in row["samples"]]
    return ShardOfSamples(row["shard"], samples, json.loads(row["seconds"]), json.loads(row["hardware"]))
