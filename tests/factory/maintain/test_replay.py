"""Samples made again from recipe, plan and key: the same bytes, and what is reported where they are not."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from actors.errors import ModelError, OutputError, RecipeError
from actors.images import encode_image, encode_mask, read_image
from factory.maintain.merge import merge
from factory.maintain.replay import Difference, Report, compare_files, drawn, replay
from factory.output.identity import Identity, read_identity
from factory.output.plan import read_plan
from factory.store.storage import Storage
from tests.factory.maintain.outputs import by_the_stages, recipe

FAST = (
    "source.limit=5",
    "output.samples_per_shard=3",
    "corruption.inference_steps=8",
    "corruption.inversion_steps=3",
    "corruption.batch_size=2",
    "verify.attempts=1",
    "verify.least_inside=0.05",
)
KEYS = [f"tinytown-000000{n}" for n in (501, 503, 504, 507, 508)]
"""501, 503 | 504: batches of the first shard; 507, 508: the second. 504 is rejected."""

FILES = ("image.png", "mask.png", "changed.png", "original.png", "json")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Storage:
    return by_the_stages(tmp_path_factory.mktemp("made") / "out", recipe("fast", *FAST))


@pytest.fixture
def copy(made: Storage, tmp_path: Path) -> Storage:
    return Storage(str(shutil.copytree(made.url, tmp_path / "copy")))


def change(storage: Storage, shard: int, changes: dict[str, Callable[[bytes], bytes]]) -> None:
    """Changes members of a tar."""
    path = Path(storage.url) / f"shards/{shard:06d}.tar"
    with tarfile.open(path) as tar:
        files = [(member.name, tar.extractfile(member).read()) for member in tar]
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in files:
            data = changes.get(name, bytes)(data)
            header = tarfile.TarInfo(name)
            header.size = len(data)
            tar.addfile(header, io.BytesIO(data))


def identity_changed(storage: Storage, **changes: dict[str, str]) -> None:
    there, plan = read_identity(storage)
    other = Identity(
        **{**vars(there), **{name: {**vars(there)[name], **new} for name, new in changes.items()}}
    )
    document = {**other.document, "digest": other.digest, "plan_sha256": plan}
    storage.replace("identity.json", json.dumps(document).encode())


def notes(report: Report) -> list[str]:
    """But for the version of our own code, which may be edited while a test runs."""
    return [note for note in report.notes if "versions.flawforge" not in note]


def assert_made_again(report: Report) -> None:
    """Every item ended as in the build, and its images differ by one level at most, if at all.

    With other rows beside it in its batch, a network's output for a row may differ by 1e-6, depending on the CPU.
    """
    for item in report.items:
        assert item.there == item.here
        for difference in item.differences:
            assert difference.name in ("image.png", "changed.png", "json"), item
            assert difference.name != "image.png" or difference.largest == 1, item
            assert difference.name != "changed.png" or difference.mean < 1, item


def test_a_sample_alone_is_made_again(made: Storage):
    """In the build it had a neighbour in its batch; here it has none."""
    report = replay(made, [KEYS[4]])
    assert_made_again(report)
    assert notes(report) == []
    assert [(item.key, item.there, item.here, item.compared) for item in report.items] == [
        (KEYS[4], "accepted", "accepted", FILES)
    ]


def test_samples_among_other_neighbours_are_made_again(made: Storage):
    """In batches of two: 508 with 501, 504 with 507, 503 alone; the build had other pairs."""
    keys = [KEYS[place] for place in (4, 0, 2, 3, 1)]
    report = replay(made, [*keys, keys[0]])
    assert_made_again(report)
    assert [item.key for item in report.items] == keys
    rejected = report.items[2]
    assert rejected.there == rejected.here == "rejected: verify unchanged"
    assert rejected.compared == () and rejected.shard == 0


def test_a_whole_shard_is_the_same_bytes(made: Storage):
    report = replay(made, [KEYS[4]], neighbours=True)
    assert report.identical and [item.shard for item in report.items] == [1]


def test_what_was_changed_is_reported(copy: Storage):
    """One channel of one pixel moved by 10 levels: 10 / (64 x 64 x 3) on average. And who made it."""

    def one_level(data: bytes) -> bytes:
        image = read_image(data).copy()
        level = int(image[5, 6, 1])
        image[5, 6, 1] = level + 10 if level < 200 else level - 10
        return encode_image(image)

    def figures(data: bytes) -> bytes:
        return json.dumps({**json.loads(data), "seed": 77}, sort_keys=True).encode()

    key = KEYS[3]
    change(copy, 1, {f"{key}.image.png": one_level, f"{key}.json": figures})
    identity_changed(copy, versions={"torch": "0.1"}, models={"corruption": "tinytown-v0@0"})
    report = replay(copy, [key], neighbours=True)
    image, about = report.items[0].differences
    assert not report.identical
    assert image == Difference("image.png", "1 pixels differ", 10, 10 / (64 * 64 * 3))
    assert about.name == "json" and "seed: 77 -> " in about.what and about.largest is None
    reported = "\n".join(report.notes)
    assert (
        'versions.torch: "0.1" -> ' in reported
        and 'models.corruption: "tinytown-v0@0" -> "tinytown' in reported
    )
    json.dumps(asdict(report))


def test_another_fate_is_reported(copy: Storage):
    path = Path(copy.url) / "index/000000.parquet"
    table = pq.read_table(path)
    rows = table.to_pylist()
    assert rows[2]["key"] == KEYS[2]
    rows[0].update(status="rejected", stage="corrupt", reason="killed_process")
    rows[2]["reason"] = "spilled"
    rows[1].update(status="rejected", stage="verify", reason="unchanged")
    pq.write_table(type(table).from_pylist(rows, schema=table.schema), path)
    report = replay(copy, KEYS[:3])
    assert notes(report) == [f"{KEYS[0]} was set aside because it ended its process; it is not tried here"]
    assert [(item.there, item.here, item.identical) for item in report.items] == [
        ("rejected: verify unchanged", "accepted", False),
        ("rejected: verify spilled", "rejected: verify unchanged", False),
    ]


def test_a_changed_recipe_is_named(copy: Storage):
    report = replay(copy, KEYS[1:2], overrides=["corruption.inversion_steps=4"])
    assert notes(report) == ["content.corruption.inversion_steps: 3 -> 4"] and not report.identical
    reported = {file.name: file.what for file in report.items[0].differences}
    assert "inversion_steps: 3 -> 4" in reported["json"] and "mask.png" not in reported


def test_missing_weights_are_reported(copy: Storage):
    with pytest.raises(ModelError, match="no model at '/nowhere/sd'"):
        replay(copy, KEYS[:1], overrides=["corruption.model=/nowhere/sd"])
    with pytest.raises(RecipeError, match="found 'x'"):
        replay(copy, KEYS[:1], overrides=["corruption.method=x"])


def test_what_cannot_be_replayed_is_reported(copy: Storage):
    with pytest.raises(OutputError, match="did you mean 'tinytown-000000501'"):
        replay(copy, ["tinytown-00000501"])
    (Path(copy.url) / "stats/000001.json").unlink()
    with pytest.raises(OutputError, match=f"{KEYS[3]} is in shard 000001, which is not made yet"):
        replay(copy, KEYS)


def test_items_by_chance(made: Storage):
    def keys(count: int, seed: int) -> list[str]:
        return [place.reference.key for place in drawn(read_plan(made), count, seed)]

    assert keys(99, 0) == KEYS and keys(0, 0) == []
    draws = {tuple(keys(2, seed)) for seed in range(20)}
    assert len(draws) > 5 and all(len(set(draw)) == 2 and sorted(draw) == list(draw) for draw in draws)
    assert keys(2, 7) == keys(2, 7)


def test_samples_of_a_merged_output(made: Storage, tmp_path: Path):
    other = by_the_stages(
        tmp_path / "other", recipe("other", *FAST, "seed=9", "source.first_seed=900", "source.limit=1")
    )
    out = Storage(str(tmp_path / "merged"))
    merge(out.url, [made.url, other.url])
    (alien,) = [item.key for item in read_plan(out).shard(2)]
    report = replay(out, [alien, KEYS[4]])
    assert_made_again(report)
    assert notes(report) == []
    assert [item.shard for item in report.items] == [2, 1]


def mask_of(*places: tuple[int, int]) -> bytes:
    mask = np.zeros((8, 8), bool)
    for place in places:
        mask[place] = True
    return encode_mask(mask)


def png(levels: np.ndarray, **options: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(levels).save(buffer, "PNG", **options)
    return buffer.getvalue()


def test_differences_between_files():
    flat = np.full((8, 8, 3), 100, np.uint8)
    lower = flat.copy()
    lower[:2] = 60  # 16 of 64 pixels, 40 levels each: 10 on average
    there = {
        "image.png": png(flat),
        "mask.png": mask_of((0, 0), (1, 1)),
        "changed.png": mask_of((0, 0)),
        "original.png": png(flat, compress_level=0),
        "extra.png": b"",
    }
    here = {
        "image.png": png(lower),
        "mask.png": mask_of((0, 0), (1, 1)),
        "changed.png": mask_of((0, 0), (3, 3), (4, 4)),  # 2 of 64 pixels, 255 levels each
        "original.png": png(flat, compress_level=9),
        "json": b"{}",
    }
    assert list(compare_files(there, here)) == [
        Difference("image.png", "16 pixels differ", 40, 10.0),
        Difference("changed.png", "2 pixels differ", 255, 2 * 255 / 64),
        Difference("original.png", "the same pixels, encoded in other bytes", 0, 0.0),
        Difference("json", "not in the output"),
        Difference("extra.png", "not made now"),
    ]
    sizes = compare_files({"image.png": png(flat)}, {"image.png": png(flat[:4])})
    assert list(sizes) == [Difference("image.png", "8 x 8 pixels, now 8 x 4")]
    (broken,) = compare_files({"image.png": b"?"}, {"image.png": png(flat)})
    assert broken.what.startswith("cannot be decoded")
    (text,) = compare_files({"json": b'{"a": 1}'}, {"json": b'{"a":1}'})
    assert text.what == "other spelling"
