"""`flawforge import richhf`: output for people and programs, and a message for every file that is not right."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import flawforge
from actors.errors import ArgumentError
from benchmarks.richhf.simulated import POINTER
from tests.commands import run
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
    for refused in ("manifest", "gallery"):
        refusal = run(refused, str(tmp_path / "out"))
        assert refusal.returncode == 1 and "Traceback" not in refusal.stderr


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
