"""Looking an item up: what is reported, what is written, and what never is."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path

import pytest
from PIL import Image

from actors.errors import OutputError
from factory.maintain.inspect import NOT_MADE, Item, inspect, write_images
from factory.maintain.search import find, place_at
from factory.output.identity import read_identity
from factory.output.plan import read_plan
from factory.output.reference import Reference
from factory.recipe.recipe import content
from factory.store.storage import Storage
from tests.factory.maintain.outputs import Identity, begin, by_hand, recipe, sample


@pytest.fixture
def output(tmp_path: Path) -> Storage:
    """Two shards of three; the second item of the second is rejected."""
    shards = [
        [sample(f"cat-{n}", f"memory://cats/{n}.png", rejected="spilled" if n == 4 else "") for n in numbers]
        for numbers in ((0, 1, 2), (3, 4, 5))
    ]
    return by_hand(tmp_path / "out", shards)


def rewritten(storage: Storage, members: dict[str, bytes]) -> None:
    """Puts other members into the second tar."""
    with tarfile.open(Path(storage.url) / "shards/000001.tar", "w") as tar:
        for name, data in members.items():
            header = tarfile.TarInfo(name)
            header.size = len(data)
            tar.addfile(header, io.BytesIO(data))


def test_an_accepted_item(output: Storage):
    item = inspect(output, "cat-3")
    made = sample("cat-3", "memory://cats/3.png")
    assert (item.status, item.problems) == ("accepted", ())
    assert item.plan == {
        "shard": 1,
        "row": 0,
        "key": "cat-3",
        "url": "memory://cats/3.png",
        "member": "",
        "caption": "a caption",
        "version": "",
    }
    assert item.made_by == {"recipe": "small", "digest": read_identity(output)[0].digest}
    assert (item.shard["name"], item.shard["planned"], item.shard["rejected"]) == ("000001", 3, 1)
    assert (item.index["seed"], item.index["attempts"], item.index["change_inside"]) == (5, 1, 1.0)
    assert item.about is not None and item.about["method"] == "noise"
    files = {file.name: file for file in item.files}
    assert list(files) == ["image.png", "mask.png", "changed.png", "original.png", "json"]
    assert files["mask.png"].size == (16, 16) and files["json"].size is None
    assert files["mask.png"].sha256 == hashlib.sha256(made.mask).hexdigest()
    assert files["mask.png"].bytes == len(made.mask)
    json.dumps(item.document)


def test_a_rejected_item(output: Storage, tmp_path: Path):
    item = inspect(output, "cat-4")
    assert item.status == "rejected" and item.about is None
    assert (item.index["stage"], item.index["reason"], item.index["detail"]) == (
        "verify",
        "spilled",
        "spilled it was",
    )
    assert not [name for name in item.index if name.startswith("preview")]
    written = write_images(item, tmp_path / "images")
    assert [path.name for path in written] == [
        f"cat-4.{name}.png" for name in ("before", "after", "mask", "changed")
    ]
    assert written[0].read_bytes() == sample("cat-4", "").image


def test_an_item_that_is_not_made_yet(output: Storage):
    (Path(output.url) / "stats/000001.json").unlink()
    item = inspect(output, "cat-5")
    assert (item.status, item.files, item.plan["shard"]) == (NOT_MADE, (), 1)
    json.dumps(item.document)


def test_an_unknown_key_names_similar_ones(output: Storage):
    with pytest.raises(OutputError, match=r"has no item with the key 'cat-33'; did you mean 'cat-3' or"):
        inspect(output, "cat-33")
    with pytest.raises(OutputError, match=r"key 'zebra'; flawforge status shows what it has"):
        inspect(output, "zebra")


def test_images_are_written_as_they_lie_in_the_tar(output: Storage, tmp_path: Path):
    written = write_images(inspect(output, "cat-5"), tmp_path / "deep" / "images")
    made = sample("cat-5", "")
    assert [path.name for path in written] == [
        f"cat-5.{name}" for name in ("image.png", "mask.png", "changed.png", "original.png", "json")
    ]
    assert [path.read_bytes() for path in written[:3]] == [made.corrupted, made.mask, made.changed]


def test_no_name_out_of_a_tar_becomes_a_path(output: Storage, tmp_path: Path):
    made = sample("cat-3", "")
    names = ("../../evil.png", "/../evil", "image.png/../../evil.png", "html")
    rewritten(
        output,
        {"cat-3.image.png": made.image, **{f"cat-3.{name}": b"evil" for name in names}},
    )
    folder = tmp_path / "a" / "b"
    item = inspect(output, "cat-3")
    assert "unknown members " in item.problems[1]
    assert [path.name for path in write_images(item, folder)] == ["cat-3.image.png"]
    found = [path for path in tmp_path.rglob("*") if path.is_file() and "evil" in path.name]
    assert found == [] and list(folder.iterdir()) == [folder / "cat-3.image.png"]


@pytest.mark.parametrize("key", ["../evil", "/evil", "a/b", "..", "", "a.b", "a\n"])
def test_no_key_out_of_a_plan_becomes_a_path(tmp_path: Path, key: str):
    item = Item(key, {}, {}, {}, "accepted", {}, None, (), (), {"image.png": b"evil"})
    with pytest.raises(OutputError, match="not of the form that keys have; nothing was written"):
        write_images(item, tmp_path / "images")
    assert not (tmp_path / "images").exists()


def test_a_damaged_image_is_reported(output: Storage):
    rewritten(output, {"cat-3.image.png": b"not an image", "cat-3.json": b"[1"})
    item = inspect(output, "cat-3")
    reported = "\n".join(item.problems)
    for words in (
        "missing mask.png, changed.png",
        "image.png cannot be decoded",
        "json is not that of a sample: Invalid JSON",
    ):
        assert words in reported
    assert {file.name: file.size for file in item.files} == {"image.png": None, "json": None}


def test_a_shrunk_image_has_the_ending_of_its_kind(tmp_path: Path):
    large = sample("whale", "memory://whale.png", rejected="spilled", side=400)
    storage = by_hand(tmp_path / "out", [[large]])
    written = write_images(inspect(storage, "whale"), tmp_path / "images")
    assert [path.name for path in written] == [
        "whale.before.jpg",
        "whale.after.jpg",
        "whale.mask.png",
        "whale.changed.png",
    ]
    for path in written:
        with Image.open(path) as image:
            assert image.size == (256, 256)
            assert image.format == {".jpg": "JPEG", ".png": "PNG"}[path.suffix]


def test_an_item_far_down_a_large_plan(tmp_path: Path):
    """10,000 items in shards of 7: number 9,000 is in shard 1285, at place 5 (1285 x 7 = 8995)."""
    storage = Storage(str(tmp_path / "out"))
    made_by = recipe()
    references = [Reference(f"item-{n}", f"memory://{n}.png", "", "", "") for n in range(10_000)]
    begin(storage, made_by, Identity(content(made_by), {}, {}, {}), references, 7, {})
    plan = read_plan(storage)
    place = find(plan, "item-9000")
    assert (place.shard, place.row, place.reference.url) == (1285, 5, "memory://9000.png")
    assert place == place_at(plan, 9000)
    assert place_at(plan, 0).reference.key == "item-0"
    assert place_at(plan, 9_999).reference.key == "item-9999"
    with pytest.raises(OutputError, match="did you mean 'item-9999' or"):
        find(plan, "item-99999")
