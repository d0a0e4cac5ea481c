"""The plan: a table on disk that deals the source's items to shards. Once built upon, it never changes."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import islice

import pyarrow as pa
import pyarrow.parquet as pq

from actors.errors import OutputError, SourceError
from factory.sources.reference import Reference
from factory.storage import Storage

PATH = "plan.parquet"

_SCHEMA = pa.schema(
    [
        ("shard", pa.int32()),
        ("key", pa.string()),
        ("url", pa.string()),
        ("member", pa.string()),
        ("caption", pa.string()),
        ("version", pa.string()),
    ]
)


@dataclass(frozen=True)
class Plan:
    """A plan on disk; row group n holds the items of shard n.

    Attributes:
        storage: the output that it belongs to.
        sizes: items per shard.
        skipped: what the source passed over while listing, by reason.
    """

    storage: Storage
    sizes: tuple[int, ...]
    skipped: Mapping[str, int]

    @property
    def items(self) -> int:
        """Number of planned items."""
        return sum(self.sizes)

    def shard(self, number: int) -> list[Reference]:
        """The items of one shard, in their order."""
        with self.storage.open(PATH) as stream:
            try:
                table = pq.ParquetFile(stream).read_row_group(number)
            except (pa.ArrowException, OSError, ValueError) as error:
                raise OutputError(f"{self.storage.url}: {PATH} is damaged: {error}") from error
        if table.num_rows and set(table["shard"].to_pylist()) != {number}:
            raise OutputError(f"{self.storage.url}: row group {number} of {PATH} is not shard {number}")
        return [Reference(**row) for row in table.drop_columns(["shard"]).to_pylist()]


def draw_plan(references: Iterable[Reference], per_shard: int, skipped: Mapping[str, int]) -> bytes:
    """Lists a source once and deals its items to shards: the content of `plan.parquet`.

    Args:
        skipped: read after the listing has ended; sources count there what they pass over.

    Raises:
        SourceError: the source has no items, or one key twice.
    """
    buffer, stream, seen = io.BytesIO(), iter(references), set[str]()
    with pq.ParquetWriter(buffer, _SCHEMA) as writer:
        number = 0
        while group := list(islice(stream, per_shard)):
            for item in group:
                if item.key in seen:
                    raise SourceError(
                        f"the source gives the key {item.key!r} twice; the second is {item.url}"
                    )
                seen.add(item.key)
            rows = [{"shard": number, **vars(item)} for item in group]
            writer.write_table(pa.Table.from_pylist(rows, schema=_SCHEMA))
            number += 1
        writer.add_key_value_metadata({"flawforge.skipped": json.dumps(dict(skipped), sort_keys=True)})
    if not number:
        passed = ", ".join(f"{count} {reason}" for reason, count in sorted(skipped.items())) or "nothing else"
        raise SourceError(f"the source has no items to plan (passed over: {passed})")
    return buffer.getvalue()


def read_plan(storage: Storage) -> Plan:
    """Raises OutputError where there is no plan, or where it is damaged."""
    with storage.open(PATH) as stream:
        try:
            meta = pq.ParquetFile(stream).metadata
            sizes = tuple(meta.row_group(group).num_rows for group in range(meta.num_row_groups))
            skipped = json.loads((meta.metadata or {}).get(b"flawforge.skipped", b"{}"))
        except (pa.ArrowException, OSError, ValueError) as error:
            raise OutputError(f"{storage.url}: {PATH} is damaged: {error}") from error
    return Plan(storage, sizes, skipped)


def shard_name(number: int) -> str:
    """`000042`: shards sort by name."""
    return f"{number:06d}"
