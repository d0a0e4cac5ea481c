"""The plan on disk: shards by their number, keys but once, little memory."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from actors.errors import OutputError, SourceError
from factory.output import plan
from factory.output.plan import Plan, draw_plan, read_plan
from factory.output.reference import Reference
from factory.store.storage import Storage


def references(count: int) -> Iterator[Reference]:
    return (Reference(f"item-{n}", f"file-{n}.png", "", "", f"v{n}") for n in range(count))


def drawn(folder: Path, count: int, per_shard: int, skipped: dict[str, int] | None = None) -> Plan:
    draw_plan(references(count), per_shard, skipped or {}, folder / plan.PATH)
    return read_plan(Storage(str(folder)))


@pytest.mark.parametrize(
    ("count", "per_shard", "sizes"),
    [(1, 4, [1]), (4, 4, [4]), (9, 4, [4, 4, 1]), (3, 5000, [3]), (12, 1, [1] * 12)],
)
def test_items_are_dealt_in_their_order(tmp_path: Path, count: int, per_shard: int, sizes: list[int]):
    there = drawn(tmp_path, count, per_shard)
    assert (there.items, there.shards) == (count, len(sizes))
    assert [there.size(number) for number in range(there.shards)] == sizes
    keys = [item.key for number in range(there.shards) for item in there.shard(number)]
    assert keys == [f"item-{n}" for n in range(count)]


def test_shards_of_several_row_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """10 rows at least are 4 shards of 3: groups of 12, 12 and 6 rows."""
    monkeypatch.setattr(plan, "ROWS_PER_GROUP", 10)
    there = drawn(tmp_path, 30, 3)
    meta = pq.read_metadata(tmp_path / plan.PATH)
    assert [meta.row_group(group).num_rows for group in range(meta.num_row_groups)] == [12, 12, 6]
    for number in range(10):
        assert [item.version for item in there.shard(number)] == [f"v{3 * number + n}" for n in range(3)]


def test_what_was_passed_over_is_kept(tmp_path: Path):
    assert drawn(tmp_path, 2, 2, {"hidden": 3}).skipped == {"hidden": 3}


def test_a_source_without_items(tmp_path: Path):
    with pytest.raises(SourceError, match=r"no items to plan \(passed over: 3 hidden, 1 other\)"):
        drawn(tmp_path, 0, 2, {"other": 1, "hidden": 3})


def note_of(folder: Path) -> dict[bytes, bytes]:
    return {b"flawforge": pq.read_metadata(folder / plan.PATH).metadata[b"flawforge"]}


def test_a_key_that_is_there_twice_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(plan, "ROWS_PER_GROUP", 10)
    items = [*references(50), Reference("item-7", "again.png", "", "", "")]
    with pytest.raises(SourceError, match=r"gives the key 'item-7' twice; the second is again\.png"):
        draw_plan(iter(items), 4, {}, tmp_path / plan.PATH)


def test_equal_hashes_of_other_keys_are_no_mistake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(plan, "hash_of", lambda key: len(key))
    assert drawn(tmp_path, 200, 16).items == 200


@pytest.mark.parametrize("kept", [0, 4, 100, 0.5])
def test_a_truncated_plan(tmp_path: Path, kept: float):
    drawn(tmp_path, 30, 3)
    whole = (tmp_path / plan.PATH).read_bytes()
    (tmp_path / plan.PATH).write_bytes(whole[: int(kept if kept > 1 else kept * len(whole))])
    with pytest.raises(OutputError, match=r"plan\.parquet is damaged"):
        read_plan(Storage(str(tmp_path)))


def test_a_parquet_file_that_is_no_plan(tmp_path: Path):
    there = drawn(tmp_path, 30, 3)
    table = pq.read_table(tmp_path / plan.PATH)
    for metadata, why in (({}, "flawforge"), (note_of(tmp_path), "its columns are not those of a plan")):
        pq.write_table(
            table.drop_columns(["caption"]).replace_schema_metadata(metadata), tmp_path / plan.PATH
        )
        with pytest.raises(OutputError, match=rf"plan\.parquet is damaged: .*{why}"):
            read_plan(Storage(str(tmp_path)))
        with pytest.raises(OutputError, match=r"plan\.parquet is damaged"):
            there.shard(0)


def test_rows_in_another_order_are_noticed(tmp_path: Path):
    there = drawn(tmp_path, 30, 3)
    table = pq.read_table(tmp_path / plan.PATH)
    mixed = table.take(np.random.default_rng(0).permutation(30))
    pq.write_table(mixed.replace_schema_metadata(note_of(tmp_path)), tmp_path / plan.PATH)
    with pytest.raises(OutputError, match=r"row group 0 .* does not hold shard 2 in its place"):
        read_plan(Storage(str(tmp_path))).shard(2)
    with pytest.raises(OutputError, match=r"plan\.parquet"):
        there.shard(2)


def test_the_note_of_a_plan_is_json(tmp_path: Path):
    drawn(tmp_path, 3, 2)
    assert json.loads(note_of(tmp_path)[b"flawforge"]) == {
        "runs": [[2, 1], [1, 1]],
        "skipped": {},
        "first": 0,
        "retries": False,
    }
