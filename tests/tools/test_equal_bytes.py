"""What a comparison finds, what it passes over, and what a build is made from."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from pathlib import Path
from typing import get_args

import pytest

from factory.recipe.recipe import load_recipe
from tests.tools.outputs import Written, write_build
from tools.equal_bytes.__main__ import main
from tools.equal_bytes.builds import BuiltOtherwiseError, CommandError, build, read_record
from tools.equal_bytes.cases import CASES, METHODS, Case, with_needed
from tools.equal_bytes.comparison import compare
from tools.equal_bytes.inputs import InputsError, write_inputs

RECIPES = Path(__file__).parents[2] / "tools" / "equal_bytes" / "recipes"


def differences(folder: Path, after: Written) -> set[tuple[str, str]]:
    """File and place of every difference between two outputs that are written for it."""
    write_build(folder / "before", Written())
    write_build(folder / "after", after)
    (result,) = compare(folder / "before", folder / "after")
    return {(one.file, one.where) for one in result.differences}


def test_another_version_of_the_code_its_digest_and_another_run_are_no_difference(tmp_path):
    before, after = Written(), Written().other()
    one, other = (write_build(tmp_path / name, what) for name, what in (("before", before), ("after", after)))
    for file in (
        "shards/000000.tar",
        "index/000000.parquet",
        "stats/000000.json",
        "manifest.json",
        "README.md",
    ):
        assert (one / file).read_bytes() != (other / file).read_bytes()
    (result,) = compare(tmp_path / "before", tmp_path / "after")
    # Plan, identity, tar, index, sidecar, manifest, card, split, and the runs as one.
    assert (result.files, result.equal, result.differences) == (9, 9, ())


def test_a_pixel(tmp_path):
    found = differences(tmp_path, Written().other(level=9))
    assert found == {("shards/000000.tar", "two.image.png"), ("index/000000.parquet", "row 1 image_sha256")}


def test_a_pixel_is_described(tmp_path):
    write_build(tmp_path / "before", Written())
    write_build(tmp_path / "after", Written().other(level=9))
    (result,) = compare(tmp_path / "before", tmp_path / "after")
    assert "1 of 64 pixels differ, by at most 2" in [one.what for one in result.differences]


def test_a_seed_is_found_in_json_and_index(tmp_path):
    found = differences(tmp_path, Written().other(seed=13))
    assert found == {("shards/000000.tar", "two.json seed"), ("index/000000.parquet", "row 1 seed")}


def test_a_field_of_a_sample_s_json(tmp_path):
    assert differences(tmp_path, Written().other(score=0.75)) == {("shards/000000.tar", "two.json score")}


def test_a_row_of_the_plan(tmp_path):
    found = differences(tmp_path, Written().other(keys=("one", "two", "four")))
    assert ("plan.parquet", "row 2 key") in found
    assert ("identity.json", "plan_sha256") in found and ("stats/000000.json", "plan_sha256") in found


def test_a_header_of_a_tar(tmp_path):
    assert differences(tmp_path, Written().other(mode=0o600)) == {("shards/000000.tar", "two.json")}


def test_stages_of_the_seconds(tmp_path):
    found = differences(tmp_path, Written().other(stages=("load", "break")))
    assert found == {("stats/000000.json", "seconds.corrupt"), ("stats/000000.json", "seconds.break")}


@pytest.mark.parametrize("file", ["stats/000000.json", "shards/000000.tar", "plan.parquet"])
def test_a_file_that_is_missing_and_one_too_many(tmp_path, file):
    write_build(tmp_path / "before", Written())
    output = write_build(tmp_path / "after", Written().other())
    (output / file).rename(output / "more")
    (result,) = compare(tmp_path / "before", tmp_path / "after")
    found = {(one.file, one.what) for one in result.differences}
    assert {(file, "only before"), ("more", "only after")} <= found


@pytest.mark.parametrize("file", ["stats/000000.json", "manifest.json"])
def test_a_sha256_that_is_not_that_of_the_tar(tmp_path, file):
    write_build(tmp_path / "before", Written())
    output = write_build(tmp_path / "after", Written().other())
    text = (output / file).read_text()
    found = re.search(r'"sha256": ?"(\w+)"', text)
    assert found is not None
    (output / file).write_text(text.replace(found[1], "0" * 64))
    (result,) = compare(tmp_path / "before", tmp_path / "after")
    assert [one.file for one in result.differences] == [file]


def test_a_digest_that_is_not_the_output_s(tmp_path):
    write_build(tmp_path / "before", Written())
    output = write_build(tmp_path / "after", Written().other())
    digest = json.loads((output / "identity.json").read_text())["digest"]
    tar = output / "shards" / "000000.tar"
    tar.write_bytes(tar.read_bytes().replace(digest.encode(), b"0" * 64, 1))
    (result,) = compare(tmp_path / "before", tmp_path / "after")
    assert ("shards/000000.tar", "one.json recipe_digest") in {
        (one.file, one.where) for one in result.differences
    }


def test_versions_of_other_packages_are_not_masked(tmp_path):
    write_build(tmp_path / "before", Written())
    output = write_build(tmp_path / "after", Written().other())
    for name in ("identity.json", "manifest.json"):
        (output / name).write_text((output / name).read_text().replace('"2.9"', '"2.10"'))
    (result,) = compare(tmp_path / "before", tmp_path / "after")
    assert {one.where for one in result.differences} == {"versions.torch"}


def test_bytes_of_a_parquet_file_whose_values_are_equal(tmp_path):
    import pyarrow.parquet as pq

    write_build(tmp_path / "before", Written())
    output = write_build(tmp_path / "after", Written())
    for name in ("plan.parquet", "index/000000.parquet"):
        pq.write_table(pq.read_table(output / name), output / name, compression="none")
    (result,) = compare(tmp_path / "before", tmp_path / "after")
    found = {one.file for one in result.differences}
    assert {"plan.parquet", "index/000000.parquet"} <= found


def test_events_of_a_run(tmp_path):
    write_build(tmp_path / "before", Written())
    output = write_build(tmp_path / "after", Written().other())
    (log,) = (output / "runs").glob("*.jsonl")
    log.write_text(log.read_text().replace("begun", "started"))
    (result,) = compare(tmp_path / "before", tmp_path / "after")
    assert {one.where for one in result.differences} == {"events.begun", "events.started"}


def test_builds_from_other_inputs_are_not_compared(tmp_path):
    write_build(tmp_path / "before", Written(), inputs="/here")
    write_build(tmp_path / "after", Written(), inputs="/there")
    with pytest.raises(BuiltOtherwiseError, match="--inputs"):
        compare(tmp_path / "before", tmp_path / "after")


def test_the_command_prints_a_table_and_the_differences(tmp_path, capsys):
    write_build(tmp_path / "before", Written())
    write_build(tmp_path / "same", Written().other())
    write_build(tmp_path / "other", Written().other(seed=13))
    assert main(["compare", str(tmp_path / "before"), str(tmp_path / "same")]) == 0
    assert "1 of 1 cases and 9 of 9 files are equal" in capsys.readouterr().out
    assert main(["compare", str(tmp_path / "before"), str(tmp_path / "other")]) == 1
    shown = capsys.readouterr().out
    assert "small: shards/000000.tar: two.json seed: 11 -> 13" in shown
    assert "0 of 1 cases and 7 of 9 files are equal" in shown
    assert main(["compare", str(tmp_path / "before"), str(tmp_path / "same"), "--only", "large"]) == 1
    assert "large: not finished" in capsys.readouterr().out


def test_inputs_are_the_same_wherever_they_are_written(tmp_path):
    def state(folder: Path) -> dict[str, tuple[bytes, float]]:
        files = [path for path in folder.rglob("*") if path.is_file()]
        return {str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime) for path in files}

    write_inputs(tmp_path / "one")
    write_inputs(tmp_path / "other")
    first = state(tmp_path / "one")
    assert first == state(tmp_path / "other")
    (tmp_path / "one" / "images" / "a.png").write_bytes(b"")
    write_inputs(tmp_path / "one")
    assert state(tmp_path / "one") == first
    (tmp_path / "one" / "images" / "mine.png").write_bytes(b"")
    with pytest.raises(InputsError, match=r"mine\.png"):
        write_inputs(tmp_path / "one")


def test_a_case_that_fails_stops_only_those_that_need_it_and_is_made_by_the_next_call(tmp_path):
    reported: list[str] = []
    later = tmp_path / "later.yaml"
    cases = [
        Case("fails", (("plan", str(later)),)),
        Case("waits", (("plan", str(later)),), needs=("fails",)),
        Case("works", (("plan", "{recipes}/scenes.yaml"),)),
    ]
    with pytest.raises(CommandError, match=r"fails: flawforge plan ended with exit code 2(?s:.*)later\.yaml"):
        build(tmp_path / "out", tmp_path / "inputs", cases, reported.append)
    assert list(read_record(tmp_path / "out")["finished"]) == ["works"]
    later.write_text((RECIPES / "scenes.yaml").read_text())
    reported.clear()
    build(tmp_path / "out", tmp_path / "inputs", cases, reported.append)
    assert [line.partition(":")[0] for line in reported] == ["fails", "waits"]
    with pytest.raises(BuiltOtherwiseError, match="choose a new folder"):
        build(tmp_path / "out", tmp_path / "others", cases, reported.append)
    with pytest.raises(BuiltOtherwiseError, match="holds other files"):
        build(tmp_path / "inputs", tmp_path / "more", cases, reported.append)


def recipes():
    """Every recipe that a case builds from: file and overrides."""
    for case in CASES:
        for command in case.commands:
            if command[0] == "build":
                file = command[1].replace("{recipes}", str(RECIPES))
                yield file, [value for option, value in pairwise(command) if option == "--set"]


def test_the_cases_have_every_method_and_every_inversion():
    loaded = [load_recipe(file, [one.replace("{inputs}", "/x") for one in sets]) for file, sets in recipes()]
    corruptions = [recipe.corruption for recipe in loaded]
    fields = type(corruptions[0]).model_fields
    assert set(METHODS) == {one.method for one in corruptions} == set(get_args(fields["method"].annotation))
    modes = type(corruptions[0].inversion).model_fields["mode"]
    assert {one.inversion.mode for one in corruptions} == set(get_args(modes.annotation))
    kinds = type(loaded[0].source).model_fields["kind"]
    assert {one.source.kind for one in loaded} == set(get_args(kinds.annotation))


def test_a_case_brings_what_it_needs_first():
    names = [case.name for case in with_needed(["merged-again"])]
    assert names == ["images", "webdataset", "retried", "merged", "merged-again"]
    with pytest.raises(ValueError, match="no case mergd"):
        with_needed(["mergd"])
