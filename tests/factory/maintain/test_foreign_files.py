"""Files of other programs beside the shards are noted; what readers would take for a shard stays a problem."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from factory.maintain.verify import verify
from factory.output.manifest import done_shards
from factory.output.plan import number_in
from factory.store.storage import Storage
from flawforge.cli import app
from tests.factory.maintain.forger import sound_output


@pytest.fixture
def output(tmp_path: Path) -> Storage:
    return sound_output(tmp_path / "out")


@pytest.mark.parametrize(
    "path",
    [
        "shards/000000.tar.idx",  # energon, DALI
        "shards/000000.idx",  # DALI, wds2idx
        "shards/wids.json",  # wids
        "shards/000000.json",  # webdataset's own counts
        "shards/_SUCCESS",  # Spark
        "shards/Thumbs.db",
        "shards/desktop.ini",
        "shards/000000.tar.md5",
        "index/_metadata",
        "index/Thumbs.db",
        "stats/Thumbs.db",
    ],
)
def test_a_file_of_another_program_is_noted(output: Storage, path: str):
    output.replace(path, b"?")
    verdict = verify(output)
    assert verdict.sound
    assert [str(note) for note in verdict.notes] == [f"{path}: not a file of Flawforge; ignored"]
    done = CliRunner().invoke(app, ["verify", output.url])
    assert done.exit_code == 0 and f"note: {path}: not a file of Flawforge; ignored" in done.output


@pytest.mark.parametrize(
    "path",
    [
        ".nv-meta/dataset.yaml",
        ".nv-meta/.info.json",
        "shards/.nv-meta/index.sqlite",
        "shards/.DS_Store",
        "shards/.000000.tar.lock",
        ".cache/huggingface/download/shards/000000.tar.metadata",
        ".gitattributes",
        "_SUCCESS",
        "wids.json",
    ],
)
def test_hidden_files_and_those_at_the_top_are_passed_over(output: Storage, path: str):
    output.replace(path, b"?")
    verdict = verify(output)
    assert verdict.sound and verdict.notes == ()


@pytest.mark.parametrize(
    "path",
    [
        "shards/000999.tar",
        "shards/000002.tar",
        "shards/copy.tar",
        "shards/000000 (1).tar",
        "shards/0000000.tar",
        "index/000002.parquet",
        "index/part-0.parquet",
        "stats/000002.json",
        "stats/wids.json",
        "stats/1.json",
    ],
)
def test_what_looks_like_ours_is_a_problem(output: Storage, path: str):
    output.replace(path, b"?")
    assert [str(problem) for problem in verify(output).problems] == [f"{path}: not in the plan"]


@pytest.mark.parametrize(
    "name", ["1.json", "0000001.json", "\u0661.json", "-1.json", "+1.json", "1_0.json", " 1.json"]
)
def test_only_the_very_name_of_a_sidecar_makes_a_shard_done(output: Storage, name: str):
    output.remove("stats/000001.json")
    output.replace(f"stats/{name}", b"{}")
    assert done_shards(output) == {0}
    assert number_in(name, ".json") is None


def test_numbers_in_names():
    names = {
        "000000.tar": 0,
        "000042.tar": 42,
        "999999.tar": 999_999,
        "1000000.tar": 1_000_000,
        "01000000.tar": None,
    }
    assert {name: number_in(name, ".tar") for name in names} == names


def test_what_is_missing_beside_the_shards_is_noted(output: Storage):
    output.remove("README.md")
    output.remove("manifest.json")
    verdict = verify(output)
    assert verdict.sound
    assert {str(note) for note in verdict.notes} == {
        "manifest.json: missing; flawforge manifest writes it anew",
        "README.md: missing; flawforge manifest writes it anew",
    }


def test_a_licence_may_be_set_in_the_card(output: Storage):
    card = output.read("README.md").replace(
        b"license: apache-2.0\n", b"license: cc-by-4.0\nlanguage:\n- en\n"
    )
    output.replace("README.md", card)
    assert b"cc-by-4.0" in card and verify(output).sound
