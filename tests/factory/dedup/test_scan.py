"""A scan of a folder of images: what is repeated or unreadable is not planned, and every item has its row."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from actors.errors import OutputError
from factory.build import Mode, build
from factory.dedup.scan import scan
from factory.output.identity import Identity
from factory.output.lock import PATH as LOCK
from factory.output.plan import NoItemsError, read_plan
from factory.output.versions import versions_of
from factory.recipe.recipe import Recipe, parse_recipe
from factory.store.storage import Storage


def soft_shapes(seed: int, side: int = 96) -> Image.Image:
    """Soft shapes that follow from a seed."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 255, (6, 6, 3), dtype=np.uint8))
    return small.resize((side, side), Image.Resampling.BICUBIC)


def encoded(image: Image.Image, kind: str = "PNG", **options: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six images; two repeated as bytes, two as looks; a broken one and a small one."""
    there = tmp_path / "images"
    there.mkdir()
    for number in range(6):
        (there / f"a{number}.png").write_bytes(encoded(soft_shapes(number)))
    (there / "b0.png").write_bytes(encoded(soft_shapes(0)))
    (there / "b1.png").write_bytes(encoded(soft_shapes(1)))
    (there / "c2.jpg").write_bytes(encoded(soft_shapes(2), "JPEG", quality=60))
    (there / "c3.png").write_bytes(encoded(soft_shapes(3).resize((200, 200))))
    (there / "d.png").write_bytes(encoded(soft_shapes(9))[:200])
    (there / "e.png").write_bytes(encoded(soft_shapes(10, side=20)))
    return there


def recipe(folder: Path, *changes: str) -> Recipe:
    text = f"""
name: images
source: {{kind: images, urls: [{folder}], size: 64, fields: {{mask: mask.png}}}}
regions: {{kind: source}}
output: {{samples_per_shard: 4}}
"""
    return parse_recipe(text, "images.yaml", changes)


def stem(key: str) -> str:
    return key.partition("-")[0]


def rows(out: Path, version: int = 1) -> dict[str, dict[str, object]]:
    return {stem(row["key"]): row for row in pq.read_table(out / f"scans/{version:04d}.parquet").to_pylist()}


def planned(out: Path) -> list[str]:
    plan = read_plan(Storage(str(out)))
    return [stem(item.key) for number in range(plan.shards) for item in plan.shard(number)]


def test_what_is_left_out_and_why(folder: Path, tmp_path: Path):
    out = tmp_path / "out"
    found = scan(recipe(folder), str(out))
    assert (found.items, found.planned, found.version) == (12, 6, 1)
    assert found.reasons == {"duplicate": 2, "near_duplicate": 2, "damaged": 1, "too_small": 1}
    assert planned(out) == ["a0", "a1", "a2", "a3", "a4", "a5"]
    table = rows(out)
    assert len(table) == 12
    assert {name: row["reason"] for name, row in table.items() if row["status"] == "left_out"} == {
        "b0": "duplicate", "b1": "duplicate", "c2": "near_duplicate", "c3": "near_duplicate", "d": "damaged",
        "e": "too_small",
    }  # fmt: skip
    assert stem(str(table["b1"]["repeats"])) == "a1" and "the same bytes as a1-" in str(table["b1"]["detail"])
    assert stem(str(table["c2"]["repeats"])) == "a2" and 0 <= int(str(table["c2"]["bits"])) <= 4
    # A build with this recipe goes on from this plan, which keeps the figures.
    storage = Storage(str(out))
    assert versions_of(storage, read_plan(storage), Identity.of(recipe(folder)))
    assert read_plan(storage).skipped == {
        "damaged": 1, "duplicate": 2, "near_duplicate": 2, "too_small": 1
    }  # fmt: skip


def test_only_the_same_bytes(folder: Path, tmp_path: Path):
    found = scan(recipe(folder), str(tmp_path / "out"), nearness=None)
    assert found.planned == 8 and "near_duplicate" not in found.reasons


def test_a_second_scan_compares_with_the_first(folder: Path, tmp_path: Path):
    out = tmp_path / "out"
    scan(recipe(folder), str(out))
    (folder / "x4.png").write_bytes(encoded(soft_shapes(4)))
    (folder / "y5.jpg").write_bytes(encoded(soft_shapes(5), "JPEG", quality=50))
    (folder / "z.png").write_bytes(encoded(soft_shapes(77)))
    found = scan(recipe(folder), str(out))
    # What the first scan left out is not in the plan, and is looked at again.
    assert (found.planned, found.version) == (1, 2) and planned(out)[6:] == ["z"]
    table = rows(out, 2)
    assert stem(str(table["x4"]["repeats"])) == "a4" and table["x4"]["reason"] == "duplicate"
    assert stem(str(table["y5"]["repeats"])) == "a5" and table["y5"]["reason"] == "near_duplicate"
    with pytest.raises(NoItemsError, match=r"no items to plan \(passed over: .*duplicate"):
        scan(recipe(folder), str(out))
    assert len(read_plan(Storage(str(out))).versions) == 2


def test_what_was_left_out_does_not_come_in_by_another_door(folder: Path, tmp_path: Path):
    scan(recipe(folder), str(tmp_path / "out"))
    with pytest.raises(OutputError, match="planned by a scan"):
        build(recipe(folder), str(tmp_path / "out"), mode=Mode.EXTEND)
    assert len(planned(tmp_path / "out")) == 6


def test_nothing_sound_is_there(folder: Path, tmp_path: Path):
    for path in folder.glob("[a-c]*"):
        path.unlink()
    with pytest.raises(NoItemsError, match="1 damaged, 1 too_small"):
        scan(recipe(folder), str(tmp_path / "out"))
    assert not (tmp_path / "out/identity.json").exists()
    shutil.copy(Path(__file__), tmp_path / "out/strange.py")
    with pytest.raises(OutputError, match="no data set of ours"):
        scan(recipe(folder), str(tmp_path / "out"))


def test_an_output_that_is_begun_while_a_scan_waits_for_the_lock_is_extended(folder: Path, tmp_path: Path):
    out = Storage(str(tmp_path / "out"))
    holder = dict.fromkeys(("run", "host", "boot", "began", "heartbeat"), "theirs") | {"pid": 1}
    out.publish(LOCK, json.dumps(holder).encode())

    def tell(words: str) -> None:
        if "watching" in words:
            out.remove(LOCK)
            scan(recipe(folder), out.url)
            (folder / "f.png").write_bytes(encoded(soft_shapes(11)))

    found = scan(recipe(folder), out.url, tell=tell)
    assert (found.version, found.planned) == (2, 1)
    assert read_plan(out).items == 6 + 1
