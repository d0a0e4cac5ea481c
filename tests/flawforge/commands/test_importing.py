"""`flawforge import`: output for people and programs, and a message for every file that is not right."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import flawforge
from actors.errors import ArgumentError
from benchmarks.richhf.simulated import POINTER
from tests.coco_files import annotation, corners, rectangle, write_coco, write_image
from tests.commands import run
from tests.eval.mask_folders.test_data_set import pal4vst, write_mask
from tests.richhf_files import Files, messy


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return messy(tmp_path_factory.mktemp("messy"))


def command(files: Files, out: Path, *more: str) -> list[str]:
    places = ["--records", str(files.records), "--images", str(files.images), "--out", str(out)]
    return ["import", "richhf", "--split", "test", *places, *more]


def test_for_people_and_for_programs(files: Files, tmp_path: Path):
    done = run(*command(files, tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    assert "images in the paper" in done.stdout and "missing_image 1" in done.stdout
    assert "passed over while listing: duplicate_uid 1" in done.stdout
    again = run(*command(files, tmp_path / "out", "--json"))
    document = json.loads(again.stdout)
    assert document["accepted"] + document["rejected"] == document["planned"] == len(files.drawn) + 6
    assert document["figures"]["images in the paper"] == 500
    assert run("verify", str(tmp_path / "out")).returncode == 0
    assert "complete" in run("status", str(tmp_path / "out")).stdout
    shown = run("gallery", str(tmp_path / "out"))
    assert shown.returncode == 0 and "gallery.html shows" in shown.stdout
    before = (tmp_path / "out/manifest.json").read_bytes()
    (tmp_path / "out/manifest.json").unlink()
    assert "README.md: " in run("manifest", str(tmp_path / "out")).stdout
    assert (tmp_path / "out/manifest.json").read_bytes() == before


def test_other_settings(files: Files, tmp_path: Path):
    out = tmp_path / "out"
    assert run(*command(files, out)).returncode == 0
    refused = run(*command(files, out, "--votes", "two"))
    assert refused.returncode == 1
    assert 'import.sample.labels.votes: "share" -> "two"' in refused.stderr
    assert run(*command(files, out, "--votes", "two", "--mode", "overwrite", "--soft")).returncode == 0


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (POINTER, "is a Git LFS pointer"),
        (b"", "has no bytes, so no records"),
        (b"\x1f\x8b" + bytes(30), "compressed with gzip"),
        (bytes(5), "record 0 at byte 0 is cut off: 5 of the 12 bytes of its header"),
        (bytes(40), "the checksum of its length is wrong"),
    ],
)
def test_records_that_are_not_right(files: Files, tmp_path: Path, data: bytes, message: str):
    (tmp_path / "test.tfrecord").write_bytes(data)
    refused = run(*command(files, tmp_path / "out", "--records", str(tmp_path / "test.tfrecord")))
    assert refused.returncode == 1
    assert message in " ".join(refused.stderr.split()) and "Traceback" not in refused.stderr
    assert not (tmp_path / "out/identity.json").exists()


def test_a_record_in_the_middle_that_is_damaged(files: Files, tmp_path: Path):
    data = bytearray((files.records / "test.tfrecord").read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "test.tfrecord").write_bytes(data)
    refused = run(*command(files, tmp_path / "out", "--records", str(tmp_path)))
    assert refused.returncode == 1
    assert "the checksum of its" in refused.stderr and "test.tfrecord: record " in refused.stderr


def test_places_with_nothing(files: Files, tmp_path: Path):
    refused = run(*command(files, tmp_path / "out", "--images", str(tmp_path)))
    assert refused.returncode == 1 and "test-*.parquet" in refused.stderr
    refused = run(*command(files, tmp_path / "out", "--records", str(tmp_path)))
    assert refused.returncode == 1 and "test.tfrecord" in refused.stderr


@pytest.mark.parametrize(
    ("option", "value"),
    [("--size", "3"), ("--votes", "all"), ("--least-annotators", "7"), ("--samples-per-shard", "0")],
)
def test_wrong_usage(files: Files, tmp_path: Path, option: str, value: str):
    refused = run(*command(files, tmp_path / "out", option, value))
    assert refused.returncode == 2 and option in refused.stderr


def test_arguments_of_the_python_api(files: Files, tmp_path: Path):
    for name, value in (
        ("mode", "extend"),
        ("votes", "all"),
        ("size", 3),
        ("split", "val"),
        ("samples_per_shard", 0),
    ):
        given = {"split": "test", "records": files.records, "images": files.images, name: value}
        with pytest.raises(ArgumentError) as why:
            flawforge.import_richhf(tmp_path / "out", **given)
        assert why.value.argument == name


def test_masks_from_folders(tmp_path: Path):
    masks = pal4vst(tmp_path)
    out = str(tmp_path / "out")
    places = ["--images", str(tmp_path / "images"), "--masks", str(tmp_path / "masks"), "--out", out]
    done = run("import", "masks", *places, "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert (document["accepted"], document["figures"]["samples with a mask"]) == (len(masks), 3)
    for command in (["verify", out], ["gallery", out], ["manifest", out], ["status", out]):
        assert run(*command).returncode == 0, command
    refused = run("import", "masks", *places, "--missing", "clean")
    assert refused.returncode == 1 and 'import.missing: "reject" -> "clean"' in refused.stderr


def test_an_item_of_an_import_is_looked_up(tmp_path: Path):
    pal4vst(tmp_path)
    out = tmp_path / "out"
    flawforge.import_masks(out, images=tmp_path / "images", masks=tmp_path / "masks")
    key = pq.read_table(out / "index/000000.parquet")["key"][0].as_py()
    found = run("inspect", str(out), key, "--out", str(tmp_path / "files"), "--json")
    assert found.returncode == 0, found.stderr
    document = json.loads(found.stdout)
    assert document["status"] == "accepted" and len(document["written"]) == 3
    missing = run("inspect", str(out), f"{key}x")
    assert missing.returncode == 1 and f"did you mean '{key}'" in " ".join(missing.stderr.split())


def test_coco_with_all_options(tmp_path: Path):
    write_image(tmp_path / "images/a.png")
    entry = {"id": 0, "file_name": "/upload/a.png", "width": 60, "height": 40}
    marks = [
        annotation(1, 0, [corners(5, 5, 20, 20)], iscrowd=1),
        annotation(2, 0, [], bbox=[30, 5, 10, 10]),
        annotation(3, 0, [corners(0, 0, 60, 40)], category_id=2),
    ]
    categories = [{"id": 1, "name": "limb"}, {"id": 2, "name": "none"}]
    write_coco(tmp_path / "a.json", [entry], marks, categories)
    options = ["--names", "tail", "--category", "limb", "--crowd", "inside", "--boxes", "inside"]
    places = ["--annotations", str(tmp_path / "a.json"), "--images", str(tmp_path / "images")]
    done = run("import", "coco", *places, *options, "--out", str(tmp_path / "out"))
    assert done.returncode == 0 and "other_category 1" in done.stdout, done.stderr
    area = pq.read_table(tmp_path / "out/index/000000.parquet")["mask_area"][0].as_py()
    assert area == (rectangle(5, 5, 20, 20) | rectangle(30, 5, 40, 15)).mean()
    refused = run("import", "coco", *places, "--out", str(tmp_path / "other"))
    assert refused.returncode == 1 and "--names tail" in " ".join(refused.stderr.split())


@pytest.mark.parametrize(
    "options",
    [
        ["masks", "--images", "x"],
        ["masks", "--images", "x", "--masks", "y", "--pattern", "mask"],
        ["masks", "--images", "x", "--masks", "y", "--alpha", "opaque", "--ignore-index", "255"],
        ["masks", "--images", "x", "--masks", "y", "--size", "3"],
        ["coco", "--images", "x", "--annotations", "y", "--size", "5000"],
        ["coco", "--images", "x", "--annotations", "y", "--crowd", "both"],
        ["coco", "--images", "x"],
    ],
)
def test_wrong_usage_of_masks_and_coco(tmp_path: Path, options: list[str]):
    refused = run("import", *options, "--out", str(tmp_path / "out"))
    assert refused.returncode == 2 and "Traceback" not in refused.stderr
    assert not (tmp_path / "out").exists()


def test_places_of_masks_and_coco_with_nothing(tmp_path: Path):
    write_image(tmp_path / "images/a.png")
    write_mask(tmp_path / "masks/b.png", rectangle(0, 0, 5, 5))
    images, out = str(tmp_path / "images"), ["--out", str(tmp_path / "out")]
    refused = run("import", "masks", "--images", images, "--masks", str(tmp_path / "masks"), *out)
    assert refused.returncode == 1 and "the first image is a.png" in " ".join(refused.stderr.split())
    refused = run("import", "coco", "--images", images, "--annotations", str(tmp_path / "none.json"), *out)
    assert refused.returncode == 1 and "there is no such file" in " ".join(refused.stderr.split())
