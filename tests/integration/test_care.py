"""Looking after a data set that Ray built: replay, verify on workers, merge, split, manifest, as commands."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import flawforge
from factory.build import build
from factory.maintain.verify import verify
from factory.maintain.verify_on_ray import CheckOnRay
from factory.recipe.recipe import parse_recipe
from factory.store.storage import Storage
from tests.coco_files import write_coco, write_image
from tests.commands import run, run_apart
from tests.factory.maintain.outputs import CLEAN, by_hand, by_the_stages, sample
from tests.integration.conftest import SMALL, content_of
from tests.patience import seconds

pytestmark = pytest.mark.usefixtures("ray_here")

FAST = (
    "source.limit=7",
    "corruption.inference_steps=8",
    "corruption.inversion_steps=3",
    "verify.least_inside=0.05",
    "output.samples_per_shard=3",
)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, ray_here: None) -> Path:
    out = tmp_path_factory.mktemp("built") / "out"
    build(parse_recipe(SMALL, "small.yaml", FAST), str(out))
    return out


def test_samples_that_ray_made_are_made_again_without_it(built: Path):
    """All seven, each among the others of its shard, in a process of its own."""
    done = run_apart("replay", str(built), "--random", "7", "--neighbours", "--json", within=500)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert report["identical"] and len(report["items"]) == 7
    fates = [item["there"] for item in report["items"]]
    assert fates == [item["here"] for item in report["items"]] and fates.count("accepted") >= 4
    files = {tuple(item["compared"]) for item in report["items"] if item["there"] == "accepted"}
    assert files == {("image.png", "mask.png", "changed.png", "original.png", "json")}


def test_an_item_is_looked_up(built: Path, tmp_path: Path):
    key = "tinytown-000000503"
    printed = json.loads(run("inspect", str(built), key, "--out", str(tmp_path), "--json").stdout)
    assert printed["key"] == key and printed["problems"] == []
    assert printed["made_by"]["digest"] == json.loads((built / "identity.json").read_text())["digest"]
    assert printed["written"] == [str(tmp_path / f"{key}.{file['name']}") for file in printed["files"]]
    done = run("inspect", str(built), "tinytown-00000503")
    assert done.returncode == 1 and f"did you mean '{key}'" in done.stderr


def test_workers_find_the_same_as_threads(built: Path, tmp_path: Path):
    out = shutil.copytree(built, tmp_path / "out")
    assert verify(Storage(str(out)), check_shards=CheckOnRay("local")) == verify(Storage(str(out)))
    path = out / "shards/000001.tar"
    path.write_bytes(path.read_bytes()[:-5000])
    (out / "stats/000002.json").unlink()
    (out / "index/000000.parquet").write_bytes(b"")
    verdict = verify(Storage(str(out)), check_shards=CheckOnRay("local"))
    assert verdict == verify(Storage(str(out))) and len(verdict.problems) >= 5


def test_workers_check_imported_sets_too(tmp_path: Path):
    for number in range(3):
        write_image(tmp_path / f"images/{number}.png", number)
    entries = [{"id": number, "file_name": f"{number}.png"} for number in range(3)]
    annotations = write_coco(tmp_path / "annotations.json", entries, [])
    out = tmp_path / "out"
    flawforge.import_coco(out, annotations=annotations, images=tmp_path / "images", samples_per_shard=1)
    assert flawforge.verify(out, address="local").sound
    tar = out / "shards/000001.tar"
    tar.write_bytes(tar.read_bytes()[:-5000])
    verdict = flawforge.verify(out, address="local")
    assert verdict == flawforge.verify(out) and not verdict.sound


def test_an_output_that_workers_cannot_read_is_told(built: Path, tmp_path: Path):
    import fsspec

    from actors.errors import BuildError

    files = fsspec.filesystem("memory")  # of this process only
    files.put(str(built), "/here/out", recursive=True)
    with pytest.raises(BuildError, match="every node of the cluster must be able to read it"):
        verify(Storage("memory://here/out"), check_shards=CheckOnRay("local"))
    files.rm("/here", recursive=True)


def test_merge_split_and_manifest_as_commands(built: Path, tmp_path: Path):
    other = tmp_path / "other"
    by_hand(other, [[sample("other-1", "memory://1.png"), sample("other-2", "memory://2.png")]], name="other")
    out = tmp_path / "merged"
    before = content_of(built)
    done = run("merge", str(out), str(built), str(other), "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["copied"] == 4
    assert content_of(built) == before
    checked = run("verify", str(out), "--json")
    assert checked.returncode == 0 and json.loads(checked.stdout)["planned"] == 9
    assert json.loads(run("status", str(out), "--json").stdout)["done"] == 4
    assert run("gallery", str(out)).returncode == 0
    page = (out / "gallery.html").read_text()
    assert "k = 3, tinytown; k = 12, tinytown" in page
    refused = run("merge", str(tmp_path / "twice"), str(built), str(out))
    assert refused.returncode == 1 and "7 keys are duplicated: tinytown-" in refused.stderr
    dealt = json.loads(run("split", str(out), "--val", "0.5", "--json").stdout)
    assert sorted(dealt["train"] + dealt["validation"]) == sorted(map(str, out.glob("shards/*.tar")))
    assert (out / "splits/val.txt").read_text().splitlines() == dealt["validation"]
    pages = {name: (out / name).read_bytes() for name in ("manifest.json", "README.md")}
    for name in pages:
        (out / name).unlink()
    assert run("manifest", str(out)).returncode == 0
    assert {name: (out / name).read_bytes() for name in pages} == pages


def test_manifest_and_card_of_a_build_come_back(built: Path, tmp_path: Path):
    out = shutil.copytree(built, tmp_path / "out")
    pages = {name: (out / name).read_bytes() for name in ("manifest.json", "README.md")}
    for name in pages:
        (out / name).unlink()
    assert run("manifest", str(out)).returncode == 0
    assert {name: (out / name).read_bytes() for name in pages} == pages


def test_clean_negatives_that_were_rejected_are_tried_again(tmp_path: Path):
    """With the limit relaxed every one is a sample, with an empty mask, and what changed is in `changed`."""
    out = tmp_path / "out"
    first = verify(by_the_stages(out, parse_recipe(SMALL, "small.yaml", CLEAN)))
    assert first.planned == 6 and 0 < first.rejected < 6
    done = run("retry-rejects", str(out), "--set", "verify.most_outside=1", "--address", "local")
    assert done.returncode == 0, done.stderr
    verdict = verify(Storage(str(out)))
    assert verdict.sound, verdict.problems
    rows = [row for path in sorted(out.glob("index/*.parquet")) for row in pq.read_table(path).to_pylist()]
    accepted = [row for row in rows if row["status"] == "accepted"]
    assert len(accepted) == 6 and all(row["mask_area"] == 0 for row in accepted)
    assert sum(row["changed_area"] > 0 for row in accepted) == first.rejected


def test_light_commands_import_nothing_heavy(built: Path):
    key = "tinytown-000000501"
    code = """
import sys
from typer.testing import CliRunner
from flawforge.cli import app
for command in {commands}:
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, (command, result.output, result.exception)
heavy = [name for name in ("torch", "ray", "diffusers", "transformers") if name in sys.modules]
assert not heavy, heavy
"""
    commands = [
        ["inspect", str(built), key],
        ["verify", str(built)],
        ["split", str(built)],
        ["manifest", str(built)],
    ]
    done = subprocess.run(
        [sys.executable, "-c", code.format(commands=commands)],
        capture_output=True,
        text=True,
        timeout=seconds(300),
    )
    assert done.returncode == 0, done.stdout + done.stderr
