"""What overwriting deletes: files that a build made, in an output that is ours; nothing else, nowhere else."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from actors.errors import OutputError
from factory.build import Mode, build
from factory.maintain.verify import verify
from factory.store.storage import Storage
from tests.factory.output.pausing import recipe_of, without_ray


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    without_ray(monkeypatch.setitem, monkeypatch.setattr)


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refused(out: Path, mode: Mode = Mode.OVERWRITE) -> str:
    """The message, after nothing was changed."""
    before = tree(out)
    with pytest.raises(OutputError, match=r"nothing was\s+changed") as error:
        build(recipe_of(2), str(out), mode=mode)
    assert tree(out) == before
    return str(error.value)


@pytest.mark.parametrize(
    "identity",
    [
        b'{"user": "ada", "key": "ssh-ed25519"}',
        b"[]",
        b'"text"',
        b"",
        b"\xff\xfe",
        json.dumps(
            dict.fromkeys(("content", "models", "versions", "devices", "digest", "plan_sha256"), "x")
        ).encode(),
        json.dumps(
            {key: {} for key in ("content", "models", "versions", "devices", "digest", "plan_sha256")}
        ).encode(),
        json.dumps(
            {"content": [[1, 2]], "models": {}, "versions": {}, "devices": 7, "digest": "", "plan_sha256": ""}
        ).encode(),
        b"[" * 100_000,
    ],
)
def test_an_identity_of_another_tool(tmp_path: Path, identity: bytes):
    for name in (
        "README.md",
        "manifest.json",
        "index/a.txt",
        "runs/1.json",
        "shards/000000.tar",
        "splits/train.txt",
    ):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"theirs")
    (tmp_path / "identity.json").write_bytes(identity)
    assert "choose a new or empty folder" in refused(tmp_path)
    refused(tmp_path, Mode.EXTEND)


@pytest.mark.parametrize("damage", ["seed", "digest", "cut"])
def test_a_damaged_identity_of_ours(tmp_path: Path, damage: str):
    build(recipe_of(1), str(tmp_path))
    path = tmp_path / "identity.json"
    document = json.loads(path.read_text())
    if damage == "seed":
        document["content"]["seed"] += 1
    elif damage == "digest":
        document["digest"] = document["digest"][::-1]
    text = json.dumps(document)
    path.write_text(text[: len(text) // 2] if damage == "cut" else text)
    assert "identity.json" in refused(tmp_path)


def test_files_of_others_stay_and_are_named(tmp_path: Path):
    out, alone, messages = tmp_path / "out", tmp_path / "alone", list[str]()
    build(recipe_of(1, 11), str(out))
    theirs = {
        name: name.encode()
        for name in (
            "notes.md",
            "shards/000001.tar.bak",
            "shards/cats.tar",
            "index/1.parquet",
            "stats/deep/a.json",
            "splits/test.txt",
        )
    }
    for name, data in theirs.items():
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_bytes(data)
    build(recipe_of(2), str(out), mode=Mode.OVERWRITE, tell=messages.append)
    build(recipe_of(2), str(alone))
    made = {name for name in tree(alone) if not name.startswith("runs/")}
    assert {name for name in tree(out) if not name.startswith("runs/")} == made | theirs.keys()
    assert {name: tree(out)[name] for name in theirs} == theirs
    (sentence,) = messages
    assert sentence.startswith(
        f"{out}: left alone, since Flawforge did not make it: index/1.parquet, notes.md, shards/000001.tar.bak"
    )
    assert sentence.endswith("and 1 more")


@pytest.mark.parametrize("folder", ["shards", "stats", "runs", "splits", "attempts"])
def test_a_folder_that_is_a_link(tmp_path: Path, folder: str):
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    build(recipe_of(1), str(out))
    elsewhere.mkdir()
    (elsewhere / "000000.tar").write_bytes(b"theirs")
    (elsewhere / "000000.json").write_bytes(b"theirs")
    if (out / folder).exists():
        (out / folder).rename(tmp_path / "moved")
    (out / folder).symlink_to(elsewhere)
    assert f"{out}/{folder} is a symbolic link" in refused(out)
    assert tree(elsewhere) == {"000000.tar": b"theirs", "000000.json": b"theirs"}


def test_a_file_that_is_a_link(tmp_path: Path):
    """The link goes, and what it leads to stays."""
    out, theirs = tmp_path / "out", tmp_path / "theirs.md"
    build(recipe_of(1), str(out))
    theirs.write_text("theirs")
    for name in ("README.md", "shards/000001.tar"):
        (out / name).unlink()
        (out / name).symlink_to(theirs)
    build(recipe_of(2), str(out), mode=Mode.OVERWRITE)
    assert theirs.read_text() == "theirs"
    assert verify(Storage(str(out))).sound


@pytest.mark.parametrize("mode", [Mode.RESUME, Mode.OVERWRITE])
def test_a_plan_or_a_recipe_of_the_user_is_no_leftover_of_ours(tmp_path: Path, mode: Mode):
    (tmp_path / "recipe.yaml").write_text("name: mine  # with a comment\n")
    refused(tmp_path, mode)
    (tmp_path / "recipe.yaml").unlink()
    pq.write_table(pa.table({"day": ["Monday"]}), tmp_path / "plan.parquet")
    refused(tmp_path, mode)
    (tmp_path / "plan.parquet").unlink()
    (tmp_path / "scans").mkdir()
    (tmp_path / "scans" / "passport.pdf").write_bytes(b"theirs")
    refused(tmp_path, mode)
