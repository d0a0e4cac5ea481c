"""Manifest and card, made anew from what lies beside them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from actors.errors import LockLostError, OutputError
from factory.maintain.merge import merge
from factory.maintain.verify import verify
from factory.output.lock import PATH as LOCK
from factory.output.lock import Lock
from factory.output.rebuild import rebuild, write_documents
from factory.store.storage import Storage
from tests.factory.maintain.outputs import by_hand, sample


@pytest.fixture
def output(tmp_path: Path) -> Storage:
    samples = [
        sample(f"item-{n}", f"memory://{n}.png", rejected={1: "spilled", 2: "unchanged"}.get(n, ""))
        for n in range(7)
    ]
    return by_hand(tmp_path / "out", [samples[:4], samples[4:]], skipped={"md": 3})


def test_both_come_back_byte_for_byte(output: Storage):
    before = {path: output.read(path) for path in ("manifest.json", "README.md")}
    for path in before:
        output.remove(path)
    total = rebuild(output)
    assert {path: output.read(path) for path in before} == before
    assert (total.accepted, total.rejected, total.complete) == (5, 2, True)


def test_a_wrong_manifest_is_mended(output: Storage):
    before = output.read("manifest.json")
    output.replace("manifest.json", before.replace(b'"accepted": 5', b'"accepted": 6'))
    assert not verify(output).sound
    rebuild(output)
    assert output.read("manifest.json") == before and verify(output).sound


def test_of_a_merged_output_too(output: Storage, tmp_path: Path):
    other = by_hand(tmp_path / "other", [[sample("other-1", "memory://o.png")]], name="other")
    merge(str(tmp_path / "merged"), [output.url, other.url])
    merged = Storage(str(tmp_path / "merged"))
    before = {path: merged.read(path) for path in ("manifest.json", "README.md")}
    for path in before:
        merged.remove(path)
    rebuild(merged)
    assert {path: merged.read(path) for path in before} == before


def test_of_an_output_that_is_not_finished(output: Storage):
    (Path(output.url) / "stats/000001.json").unlink()
    total = rebuild(output)
    assert (total.complete, total.done, total.accepted) == (False, 1, 2)
    assert b'"complete": false' in output.read("manifest.json")


def test_without_a_recipe_nothing_is_written(output: Storage):
    for path in ("manifest.json", "recipe.yaml"):
        output.remove(path)
    with pytest.raises(OutputError, match=r"recipe\.yaml is missing"):
        rebuild(output)
    assert not output.exists("manifest.json")


def test_a_late_run_writes_until_both_are_up_to_date(output: Storage, monkeypatch: pytest.MonkeyPatch):
    """The successor makes a shard again while the late run writes the manifest: the numbers stay the same."""
    path, replace = Path(output.url) / "stats/000001.json", Storage.replace
    before = json.loads(path.read_text())

    def slow(self: Storage, name: str, data: bytes) -> None:
        if not self.run and name == "manifest.json":
            path.write_text(json.dumps({**before, "unet_rows": 12345}))
        replace(self, name, data)

    monkeypatch.setattr(Storage, "replace", slow)
    with Lock(output) as lock:
        (Path(output.url) / LOCK).write_text('{"run": "another"}')
        with pytest.raises(LockLostError):
            write_documents(lock.storage)
    rows = json.loads((Path(output.url) / "stats/000000.json").read_text())["unet_rows"]
    assert json.loads(output.read("manifest.json"))["totals"]["unet_rows"] == 12345 + rows
