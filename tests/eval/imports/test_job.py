"""Imports that were stopped or killed, resumed to the same bytes; other settings refused; tampering found."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from actors.errors import OutputError, SourceError
from eval.imports.job import Imported, import_set
from eval.imports.verify import verify_import
from eval.richhf.data_set import RichHF, RichHFSettings
from eval.richhf.sample import SampleSettings
from factory.output.manifest import Progress
from factory.store.storage import Storage
from tests.patience import seconds
from tests.richhf_files import Files, sound
from tests.train.data.data_sets import content, everything
from train.data.catalogue import open_data_set
from train.data.reading import Reader

COUNT, PER_SHARD = 24, 4


class Stop(Exception):
    pass


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return sound(tmp_path_factory.mktemp("sound"), COUNT)


@pytest.fixture(scope="module")
def whole(files: Files, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("whole")
    assert run(files, out).total.accepted == COUNT
    return out


def run(
    files: Files, out: Path, *, soft: bool = False, stop_after: int | None = None, **options: bool
) -> Imported:
    settings = RichHFSettings(
        split="train",
        records=str(files.records),
        images=str(files.images),
        sample=SampleSettings(soft=soft),
    )

    def show(total: Progress) -> None:
        if total.done == stop_after:
            raise Stop

    return import_set(RichHF(settings), str(out), per_shard=PER_SHARD, show=show, **options)


def contents(out: Path) -> dict[str, bytes]:
    """All files but the sidecars, which have the seconds that a shard took, and what a killed writer left aside."""
    return {
        str(path.relative_to(out)): path.read_bytes()
        for path in sorted(out.rglob("*"))
        if path.is_file() and path.parent.name != "stats" and not path.name.startswith(".")
    }


def test_a_stopped_import_goes_on_to_the_same_bytes(files: Files, whole: Path, tmp_path: Path):
    for stop_after in (0, 2, 5):
        with pytest.raises(Stop):
            run(files, tmp_path, stop_after=stop_after)
        assert len(list(tmp_path.glob("stats/*.json"))) == stop_after
    before = (tmp_path / "shards/000001.tar").stat().st_mtime_ns
    assert run(files, tmp_path).total.complete
    assert (tmp_path / "shards/000001.tar").stat().st_mtime_ns == before
    assert contents(tmp_path) == contents(whole)


def test_a_killed_import_goes_on_to_the_same_bytes(files: Files, whole: Path, tmp_path: Path):
    command = [sys.executable, "-m", "flawforge", "import", "richhf", "--out", str(tmp_path)]
    command += ["--records", str(files.records), "--images", str(files.images)]
    process = subprocess.Popen([*command, "--samples-per-shard", str(PER_SHARD)], stdout=subprocess.DEVNULL)
    end = time.monotonic() + seconds(60)
    while process.poll() is None and not (tmp_path / "stats/000000.json").exists():
        assert time.monotonic() < end
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert run(files, tmp_path).total.complete
    assert contents(tmp_path) == contents(whole)


def test_a_finished_import_changes_nothing(files: Files, whole: Path):
    before = contents(whole)
    assert run(files, whole).total.complete
    assert contents(whole) == before


def test_other_settings_are_refused_and_overwritten_by_choice(files: Files, tmp_path: Path):
    run(files, tmp_path)
    with pytest.raises(OutputError, match=r"import\.sample\.soft: false -> true") as why:
        run(files, tmp_path, soft=True)
    assert "--mode overwrite" in str(why.value)
    assert run(files, tmp_path, soft=True, overwrite=True).total.accepted == COUNT
    assert verify_import(Storage(str(tmp_path))).sound


def test_records_that_changed_since_they_were_planned(files: Files, tmp_path: Path):
    out = tmp_path / "out"
    mine = sound(tmp_path, COUNT)
    with pytest.raises(Stop):
        run(mine, out, stop_after=1)
    sound(tmp_path, COUNT - 1)
    with pytest.raises(SourceError, match=r"changed since it was planned: .*; plan again into a new output"):
        run(mine, out)


def test_a_mistyped_source_leaves_the_output_alone(files: Files, tmp_path: Path):
    out = tmp_path / "out"
    run(files, out)
    before = contents(out)
    with pytest.raises(SourceError, match=r"train\.tfrecord"):
        run(Files(tmp_path / "nowhere", files.images, {}), out, overwrite=True)
    assert contents(out) == before


def test_the_verifier_finds_what_was_changed(files: Files, tmp_path: Path):
    run(files, tmp_path, soft=True)
    storage = Storage(str(tmp_path))
    assert verify_import(storage).sound
    tar = tmp_path / "shards/000002.tar"
    data = bytearray(tar.read_bytes())
    data[600] ^= 1
    tar.write_bytes(data)
    (tmp_path / "shards/000003.tar").unlink()
    (tmp_path / "stats/000004.json").unlink()
    verdict = verify_import(storage)
    found = " | ".join(map(str, verdict.problems))
    assert not verdict.sound
    assert "shards/000002.tar" in found and "image.png is not the file that the index records" in found
    assert "shards/000003.tar: it is missing" in found
    assert "000004: not made yet" in found
    assert run(files, tmp_path, soft=True).total.complete  # makes the shards without tar and sidecar again
    assert "000003" not in " | ".join(map(str, verify_import(storage).problems))


def test_an_imported_set_is_a_data_set_for_training(files: Files, tmp_path: Path):
    run(files, tmp_path, soft=True)
    data_set = open_data_set("richhf", str(tmp_path), label="mask", cache=None)
    assert (data_set.kind, data_set.counts) == ("output", (PER_SHARD,) * (COUNT // PER_SHARD))
    expected = content(tmp_path)
    found = everything(data_set, Reader(data_set))
    assert list(found) == list(expected)
    for key, one in found.items():
        assert one.image == expected[key]["image.png"]
        assert one.label == {"mask": expected[key]["mask.png"]}
