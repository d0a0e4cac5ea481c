"""What a training is: which changes make another one, and what an output may hold."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from actors.errors import OutputError, TrainingError
from factory.store.storage import Storage
from tests.train.small import data_of, drawn, recipe_of, tar_of
from tests.upernet import save_upernet
from train.identity import OURS, TrainingIdentity, begin, is_training, read_training
from train.recipe import TrainingRecipe, with_data


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("place")
    save_upernet(folder / "net")
    tar_of(folder / "small.tar", drawn(3, 16))
    tar_of(folder / "other.tar", drawn(4, 16))
    return folder


def recipe(place: Path, **changes: Any) -> TrainingRecipe:
    return with_data(recipe_of(place / "net", **changes), [str(place / "small.tar")])


def identity(place: Path, one: TrainingRecipe | None = None, *, tar: str = "small.tar") -> TrainingIdentity:
    return TrainingIdentity.of(one or recipe(place), [data_of(place / tar)], None)


def test_it_reads_back(place: Path, tmp_path: Path) -> None:
    storage, made = Storage(str(tmp_path)), identity(place)
    assert not is_training(storage)
    begin(storage, made, [data_of(place / "small.tar")])
    assert is_training(storage) and read_training(storage) == made
    document = json.loads((tmp_path / "training.json").read_bytes())
    assert document["digest"] == made.digest and len(made.digest) == 64
    assert document["checkpoint"].startswith("net@") and document["data"][0]["samples"] == 3
    begin(storage, made, [data_of(place / "small.tar")])
    assert json.loads((tmp_path / "training.json").read_bytes()) == document


@pytest.mark.parametrize(
    ("changes", "same"),
    [
        ({"execution": {"workers": 4, "save_every": 3}}, True),
        ({"name": "another"}, True),
        ({"seed": 1}, False),
        ({"iterations": 21}, False),
        ({"batch": 16}, False),
        ({"precision": "float32"}, False),
        ({"ema": 0.9}, False),
        ({"bad_samples": "skip"}, False),
        ({"model": {"drop_path": 0.1}}, False),
        ({"optimizer": {"weight_decay": 0.02}}, False),
        ({"loss": {"kind": "dice"}}, False),
        ({"augmentation": {"flip": 0.4}}, False),
        ({"data": [{"name": "small", "weight": 2.0}]}, False),
    ],
)
def test_what_the_digest_covers(place: Path, changes: dict[str, Any], same: bool) -> None:
    assert (identity(place, recipe(place, **changes)).digest == identity(place).digest) == same


def test_labels_validation_and_weights_count_too(place: Path) -> None:
    plain = identity(place)
    labelled = TrainingIdentity.of(recipe(place), [data_of(place / "small.tar", "none")], None)
    one = recipe(place, validation={"url": "x"})
    first, second = (
        TrainingIdentity.of(one, [data_of(place / "small.tar")], data_of(place / tar))
        for tar in ("small.tar", "other.tar")
    )
    assert len({plain.digest, labelled.digest, first.digest, second.digest}) == 4


def test_another_recipe_is_refused_with_its_differences(place: Path, tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    begin(storage, identity(place), [data_of(place / "small.tar")])
    before = (tmp_path / "training.json").read_bytes()
    other = identity(place, recipe(place, iterations=30, optimizer={"clip": 1.0}))
    with pytest.raises(OutputError) as caught:
        begin(storage, other, [data_of(place / "small.tar")])
    message = str(caught.value)
    assert message.startswith(
        f"{tmp_path} holds another training; choose another folder, go back to its recipe"
    )
    assert "content.iterations" in message and "20" in message and "30" in message
    assert "content.optimizer.clip" in message and "weight_decay" not in message
    assert (tmp_path / "training.json").read_bytes() == before


def test_other_weights_are_refused(place: Path, tmp_path: Path) -> None:
    storage = Storage(str(tmp_path / "out"))
    begin(storage, identity(place), [data_of(place / "small.tar")])
    save_upernet(tmp_path / "net", bias=1.0)
    one = with_data(recipe_of(tmp_path / "net"), [str(place / "small.tar")])
    with pytest.raises(OutputError, match=r"holds another training; .*\n  checkpoint: "):
        begin(storage, identity(place, one), [data_of(place / "small.tar")])


def test_changed_data_is_refused_and_moved_data_is_fine(place: Path, tmp_path: Path) -> None:
    storage = Storage(str(tmp_path / "out"))
    begin(storage, identity(place), [data_of(place / "small.tar")])
    shutil.copy(place / "small.tar", tmp_path / "small.tar")
    moved = with_data(recipe_of(place / "net"), [str(tmp_path / "small.tar")])
    begin(storage, identity(place, moved), [data_of(tmp_path / "small.tar")])
    shutil.copytree(place / "net", tmp_path / "net")
    copied = with_data(recipe_of(tmp_path / "net"), [str(tmp_path / "small.tar")])
    begin(storage, identity(place, copied), [data_of(tmp_path / "small.tar")])
    with pytest.raises(
        TrainingError, match="the data set small has changed since the checkpoint: it had 3 samples"
    ):
        begin(storage, identity(place, tar="other.tar"), [data_of(place / "other.tar")])


def test_folders_of_others_are_refused(place: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(
            OutputError, match=rf"{tmp_path} holds files that are not of a training \(notes.txt\): choose"
        ):
            begin(
                Storage(str(tmp_path)), identity(place), [data_of(place / "small.tar")], overwrite=overwrite
            )
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_lock_and_an_index_of_tars_may_be_there_before(place: Path, tmp_path: Path) -> None:
    (tmp_path / "index").mkdir()
    (tmp_path / "index/x.parquet").write_text("")
    (tmp_path / "lock.json").write_text("{}")
    begin(Storage(str(tmp_path)), identity(place), [data_of(place / "small.tar")])
    assert is_training(Storage(str(tmp_path)))


def test_overwriting_deletes_our_files_and_no_others(place: Path, tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    begin(storage, identity(place), [data_of(place / "small.tar")])
    ours = [
        "checkpoints/000010.json",
        "checkpoints/000010.model.safetensors",
        "checkpoints/000010.ema.safetensors",
        "log/000010.jsonl",
        "samples/000010-0003.jsonl",
        "index/small-00.parquet",
        "log.jsonl",
        "config.json",
        "preprocessor_config.json",
        "model.safetensors",
        "metrics.json",
        "progress.json",
        "recipe.yaml",
        "README.md",
    ]
    others = ["checkpoints/best.pt", "log/notes.md", "shards/000000.tar", "model.bin", "training.json.bak"]
    for name in ours + others:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    told: list[str] = []
    other = identity(place, recipe(place, seed=9))
    begin(storage, other, [data_of(place / "small.tar")], overwrite=True, tell=told.append)
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert left == {*others, "training.json"} and read_training(storage) == other
    assert len(told) == 1 and "left alone, since Flawforge did not make it: checkpoints/best.pt" in told[0]
    # And it is a training that goes on.
    begin(storage, other, [data_of(place / "small.tar")])


def test_the_checkpoints_commits_go_first() -> None:
    """A kill in the middle leaves no checkpoint whose log is missing."""
    assert next(iter(OURS)) == "checkpoints" and list(OURS)[-1] == ""


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "is damaged"),
        (b"{", "is damaged"),
        (b"[]", "is damaged"),
        (b"\xff\xfe", "is damaged"),
        (b"[" * 100_000, "is damaged"),
        (b'{"schema_version": 2}', "has schema version 2, this Flawforge reads 1 only"),
        (b'{"lr": 0.1}', "has schema version None"),
        (b'{"schema_version": 1, "name": 5}', "is damaged"),
    ],
)
def test_a_file_of_that_name_of_others(place: Path, tmp_path: Path, data: bytes, words: str) -> None:
    (tmp_path / "training.json").write_bytes(data)
    (tmp_path / "model.safetensors").write_text("mine")
    storage = Storage(str(tmp_path))
    with pytest.raises(OutputError, match=f"{tmp_path}: training.json {words}"):
        read_training(storage)
    for overwrite in (False, True):
        with pytest.raises(OutputError, match=words):
            begin(storage, identity(place), [data_of(place / "small.tar")], overwrite=overwrite)
    assert (tmp_path / "training.json").read_bytes() == data and (tmp_path / "model.safetensors").exists()


def test_secrets_stay_out(place: Path) -> None:
    """Of a web server's URL: the signature of the query."""
    one = recipe_of(
        place / "net", data=[{"name": "small", "url": "https://host/x.tar?X-Amz-Signature=5ecret"}]
    )
    made = TrainingIdentity.of(one, [data_of(place / "small.tar")], None)
    assert b"5ecret" not in made.encoded and b"https://host/x.tar" in made.encoded
