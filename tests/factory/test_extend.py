"""`extend` where the source is spelled otherwise, has moved in part, or has changed."""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from actors.errors import OutputError
from factory.build import Mode, _versions
from factory.output.identity import Identity
from factory.output.plan import NoItemsError, Plan, read_plan
from factory.output.versions import begin, unplanned
from factory.recipe.recipe import Recipe, parse_recipe
from factory.sources import open_source
from factory.store.storage import Storage

RECIPE = """
name: grown
source: {kind: images, size: 64, urls: [%s], fields: {image: [png], mask: mask.png, caption: txt}}
regions: {kind: source}
corruption: {method: blur, target: image}
output: {samples_per_shard: 4}
"""


def recipe(*urls: Path | str, changes: tuple[str, ...] = ()) -> Recipe:
    text = RECIPE % ", ".join(json.dumps(str(url)) for url in urls)
    return parse_recipe(text, "grown.yaml", changes)


class Grown:
    """An output whose plan grows; nothing is made.

    Attributes:
        messages: the messages to the user.
    """

    def __init__(self, out: Path) -> None:
        self.storage, self.messages = Storage(str(out)), list[str]()

    def extend(self, one: Recipe) -> list[str]:
        """Names of the new items' files."""
        versions = _versions(one, self.storage, Identity.of(one), Mode.EXTEND, self.messages.append)
        return [
            item.url.rpartition("/")[2] + item.member[:11]
            for number in versions[-1].shards
            for item in self.plan.shard(number)
        ]

    @property
    def plan(self) -> Plan:
        return read_plan(self.storage)


@pytest.fixture
def grown(tmp_path: Path) -> Grown:
    return Grown(tmp_path / "out")


def make(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())
    return folder


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (["a"], ["b", "a"]),
        (["a/*.png"], ["*/*.png"]),
        (["a"], [""]),
        (["a"], ["{b,a}/"]),
        (["b/../a"], ["b", "link-to-a"]),
        (["link-to-a/*"], ["a", "b"]),
        (["links"], ["a", "b"]),
    ],
)
def test_only_what_is_new_is_added(tmp_path: Path, grown: Grown, first: list[str], second: list[str]) -> None:
    data = make(tmp_path / "data", "a/1.png", "a/2.png", "b/3.png", "b/1.png")
    (data / "link-to-a").symlink_to("a")
    (data / "links").mkdir()
    for name in ("1.png", "2.png"):
        (data / "links" / name).symlink_to(f"../a/{name}")
    assert sorted(grown.extend(recipe(*(f"{data}/{url}" for url in first)))) == ["1.png", "2.png"]
    assert sorted(grown.extend(recipe(*(f"{data}/{url}" for url in second)))) == ["1.png", "3.png"]
    assert grown.plan.items == 4
    assert not grown.messages
    with pytest.raises(NoItemsError, match="no item that"):
        grown.extend(recipe(*(f"{data}/{url}" for url in second[::-1]), f"{data}/a"))


def touched(path: Path) -> None:
    os.utime(path, (1, 1))


@pytest.mark.parametrize("side", ["image", "caption"])
def test_changed_content_under_an_old_name(tmp_path: Path, grown: Grown, side: str) -> None:
    data = make(tmp_path / "data", "a/1.png", "a/1.txt", "a/2.png", "a/2.txt")
    grown.extend(recipe(data / "a"))
    touched(data / ("a/2.png" if side == "image" else "a/2.txt"))
    make(data, "b/3.png")
    assert grown.extend(recipe(data / "b", data / "a")) == ["3.png"]
    assert grown.plan.skipped == {"changed_since_planned": 1, "caption": 2}
    (message,) = grown.messages
    assert "1 items have changed since they were planned" in message
    assert f"file://{data}/a/2.png" in message
    with pytest.raises(NoItemsError, match=r"1 of them changed_since_planned"):
        grown.extend(recipe(data))


@pytest.mark.parametrize("how", ["added", "lost"])
def test_a_caption_that_comes_or_goes_is_a_change(tmp_path: Path, grown: Grown, how: str) -> None:
    data = make(tmp_path / "data", "1.png", "1.txt", "2.png")
    grown.extend(recipe(data))
    if how == "added":
        make(data, "2.txt")
    else:
        (data / "1.txt").unlink()
    make(data, "3.png")
    assert grown.extend(recipe(f"{data}/*")) == ["3.png"]
    assert grown.plan.skipped["changed_since_planned"] == 1


def test_other_fields_are_no_change(tmp_path: Path, grown: Grown) -> None:
    data = make(tmp_path / "data", "1.png", "1.txt", "2.png")
    grown.extend(recipe(data))
    make(data, "3.png")
    assert grown.extend(recipe(data, changes=("source.fields.caption=null",))) == ["3.png"]
    assert grown.plan.skipped == {"txt": 1}
    touched(data / "1.png")
    make(data, "4.png")
    assert grown.extend(recipe(data, changes=("source.fields.mask=m.png",))) == ["4.png"]
    assert grown.plan.skipped["changed_since_planned"] == 1


def test_a_link_that_leads_elsewhere_now(tmp_path: Path, grown: Grown) -> None:
    data = make(tmp_path / "data", "v1/1.png", "v2/1.png", "v2/2.png")
    touched(data / "v1/1.png")
    link = data / "current"
    link.symlink_to("v1")
    grown.extend(recipe(link))
    link.unlink()
    link.symlink_to("v2")
    assert grown.extend(recipe(f"{link}/*")) == ["2.png"]
    assert grown.plan.skipped["changed_since_planned"] == 1


def write_tar(path: Path, *names: str) -> None:
    with tarfile.open(path, "w") as archive:
        for name in names:
            archive.addfile(tarfile.TarInfo(name), io.BytesIO())


def write_rows(path: Path, *names: str) -> None:
    pq.write_table(
        pa.table({"image": [name.encode() for name in names], "image2": [b""] * len(names)}),
        path,
        row_group_size=2,
    )


@pytest.mark.parametrize(
    ("kind", "write", "fields", "new"),
    [
        ("webdataset", write_tar, "{image: [png], mask: mask.png}", ['b.x{"stem":"3"', 'c.x{"stem":"1"']),
        ("parquet", write_rows, "{image: [image], mask: image2}", ['b.x{"group":1,', 'c.x{"group":0,']),
    ],
)
def test_items_in_files(
    tmp_path: Path, grown: Grown, kind: str, write: Callable[..., None], fields: str, new: list[str]
) -> None:
    """A file that was packed again has new items, and old ones that cannot be reported from changed ones."""
    suffix = {"webdataset": "tar", "parquet": "parquet"}[kind]
    data = tmp_path / "data"
    data.mkdir()
    changes = (f"source.kind={kind}", f"source.fields={fields}")
    for name in "ab":
        write(data / f"{name}.{suffix}", "1.png", "2.png")
    assert len(grown.extend(recipe(f"{data}/b.*", f"{data}/a.*", changes=changes))) == 4
    write(data / f"b.{suffix}", "1.png", "2.png", "3.png")
    touched(data / f"b.{suffix}")
    write(data / f"c.{suffix}", "1.png")
    assert grown.extend(recipe(data, changes=changes)) == [name.replace("x", suffix, 1) for name in new]
    assert grown.plan.skipped["changed_since_planned"] == 2
    assert f"{data}/b.{suffix}" in grown.messages[0]


def test_a_plan_whose_keys_are_of_an_older_release(tmp_path: Path, grown: Grown) -> None:
    data = make(tmp_path / "data", "1.png", "2.png")
    one = recipe(data)
    items = [replace(item, key=f"old-{n}") for n, item in enumerate(open_source(one.source, one.seed).list())]
    begin(grown.storage, one, Identity.of(one), items, {})
    make(data, "3.png")
    assert grown.extend(one) == ["3.png"]
    touched(data / "1.png")
    make(data, "4.png")
    assert grown.extend(recipe(data.parent)) == ["4.png"]
    assert grown.plan.skipped["changed_since_planned"] == 1


def test_items_under_keys_of_their_own_do_not_count(tmp_path: Path, grown: Grown) -> None:
    data = make(tmp_path / "data", "1.png")
    one = recipe(data)
    grown.extend(one)
    make(data, "2.png")
    other = recipe(data, changes=("seed=7",))
    _versions(other, grown.storage, Identity.of(other), Mode.AGAIN, grown.messages.append)
    assert grown.plan.items == 3
    assert grown.extend(one) == ["2.png"]


def test_a_damaged_member_is_named(tmp_path: Path, grown: Grown) -> None:
    one = recipe(make(tmp_path / "data", "1.png"))
    grown.extend(one)
    table = pq.read_table(tmp_path / "out/plan.parquet")
    broken = table.set_column(table.schema.get_field_index("member"), "member", pa.array(["{"]))
    note = pq.ParquetFile(tmp_path / "out/plan.parquet").metadata.metadata
    with pq.ParquetWriter(tmp_path / "out/plan.parquet", broken.schema) as writer:
        writer.write_table(broken)
        writer.add_key_value_metadata({b"flawforge": note[b"flawforge"]})
    with pytest.raises(OutputError, match=r"plan\.parquet is damaged: the member of '1-"):
        list(unplanned(grown.plan, [], {}, Counter(), print))
