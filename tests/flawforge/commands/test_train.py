"""`flawforge train`, `plan` and `status` of trainings: messages, exit codes and figures, all without Ray."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import ray

import flawforge
from actors.errors import TrainingError
from factory.output import lock
from factory.store.storage import Storage
from flawforge.commands.train import words
from tests.commands import run
from tests.factory.maintain.outputs import by_hand, sample
from tests.factory.run.test_status import holder, put
from tests.train.small import data_of, drawn, tar_of
from tests.upernet import save_upernet
from train import progress
from train.data.catalogue import open_data_set
from train.identity import TrainingIdentity, begin
from train.places import absolute
from train.progress import Progress
from train.recipe import load_training
from train.trained import Trained


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A recipe with a data set of 10 images."""
    save_upernet(tmp_path / "net")
    tar_of(tmp_path / "small.tar", drawn(10))
    (tmp_path / "recipe.yaml").write_text(f"""\
name: tiny
kind: detector
iterations: 20
batch: 4
data: [{{name: small, url: {tmp_path}/small.tar}}]
model: {{checkpoint: {tmp_path}/net, batch_norm: frozen}}
""")
    return tmp_path


def train(folder: Path, *options: str) -> tuple[int, str]:
    """Exit code and complaint of a training that must end before Ray starts, and print nothing else."""
    done = run("train", str(folder / "recipe.yaml"), "--out", str(folder / "out"), *options)
    assert done.stdout == "" and "Traceback" not in done.stderr
    assert not ray.is_initialized()
    return done.returncode, " ".join(done.stderr.replace("│", " ").split())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--data", "other=small.tar"], "--data other=small.tar: no data set other; the recipe has small"),
        (["--workers", "x"], "Invalid value for --workers: found x; allowed: a number, or two such as 2,8"),
        (["--workers", "1,2,3"], "found 1,2,3; allowed: a number, or two such as 2,8"),
        (["--workers", "3,2"], "execution.workers"),
        (["--workers", "5"], "execution.workers: found 5; allowed: at most batch (4): every worker needs an"),
        (["--workers", "0"], "execution.workers"),
        (["--mode", "extend"], "Invalid value for --mode: allowed: resume, overwrite"),
        (["--set", "iterations=0"], "iterations: found 0"),
        (["--set", "precison=float64"], "did you mean 'precision'?"),
    ],
)
def test_wrong_usage(folder: Path, options: list[str], words: str):
    code, complaint = train(folder, *options)
    assert code == 2 and words in complaint
    assert not (folder / "out").exists()


def test_a_data_set_without_a_url(folder: Path):
    recipe = folder / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace(f", url: {folder}/small.tar", ""))
    assert train(folder) == (2, "flawforge: data: no URL for small; give --data small=URL")


def data_without_samples(folder: Path) -> str:
    tar_of(folder / "empty.tar", [], ("notes.txt", b"no image"))
    return "the data set small has no samples: "


def data_that_is_not_there(folder: Path) -> str:
    return "empty.tar: "


def data_that_is_not_finished(folder: Path) -> str:
    by_hand(folder / "empty.tar/made", [[sample("a", "s")], [sample("b", "s")]]).remove("manifest.json")
    return "the output is not finished, it has no manifest.json; finish it with `flawforge build`"


@pytest.mark.parametrize("make", [data_without_samples, data_that_is_not_there, data_that_is_not_finished])
def test_data_that_cannot_be_trained_on(folder: Path, make: Any):
    words = make(folder)
    place = folder / "empty.tar/made" if (folder / "empty.tar").is_dir() else folder / "empty.tar"
    code, complaint = train(folder, "--data", f"small={place}")
    assert code == 1 and words in complaint and complaint.startswith("flawforge: ")
    # The lock is free again, and nothing says that this is a training.
    assert not {"lock.json", "training.json"} & {path.name for path in folder.glob("out/*")}


def begun(folder: Path) -> Storage:
    """The output of the recipe's training, which has begun and done no step."""
    recipe = absolute(load_training(folder / "recipe.yaml"))
    storage = Storage(str(folder / "out"))
    (one,) = recipe.data
    data = [open_data_set(one.name, str(one.url), label=one.label, cache=storage)]
    begin(storage, TrainingIdentity.of(recipe, data, None), data)
    return storage


def test_data_that_changed_since_the_training_began(folder: Path):
    before = data_of(folder / "small.tar").digest
    begun(folder)
    tar_of(folder / "small.tar", drawn(11))
    after = data_of(folder / "small.tar").digest
    code, complaint = train(folder)
    assert code == 1 and complaint.startswith(
        "flawforge: the data set small has changed since the checkpoint"
    )
    assert f"10 samples in 1 shards, digest {before[:16]}" in complaint
    assert f"11 samples in 1 shards, digest {after[:16]}" in complaint
    with pytest.raises(TrainingError, match="the data set small has changed"):
        flawforge.train(folder / "recipe.yaml", folder / "out")


def test_another_recipe_and_a_folder_of_others(folder: Path):
    begun(folder)
    code, complaint = train(folder, "--set", "optimizer.learning_rate=0.5")
    assert code == 1 and "out holds another training; choose another folder" in complaint
    assert "optimizer.learning_rate: 6e-05 -> 0.5" in complaint
    (folder / "mine").mkdir()
    (folder / "mine/letter.txt").write_text("dear")
    code, complaint = train(folder, "--out", str(folder / "mine"))
    assert (
        code == 1 and "mine holds files that are not of a training (letter.txt): choose another" in complaint
    )
    assert [path.name for path in (folder / "mine").iterdir()] == ["letter.txt"]


def test_weights_that_are_not_here(folder: Path):
    code, complaint = train(folder, "--set", "model.checkpoint=nobody/nothing")
    assert code == 1 and "nobody/nothing" in complaint


def test_the_plan(folder: Path):
    done = run("plan", str(folder / "recipe.yaml"), "--set", "execution.workers=[1, 2]")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("tiny (detector): 20 steps of 4 images\n")
    assert "workers: 1 to 2, each with 1 CPUs\n" in done.stdout
    # 80 reads of 10 samples
    assert done.stdout.splitlines()[4].replace("│", " ").split() == ["small", "mask", "10", "80", "8.0"]
    view = json.loads(run("plan", str(folder / "recipe.yaml"), "--set", "iterations=5", "--json").stdout)
    assert (view["name"], view["iterations"], view["batch"]) == ("tiny", 5, 4)
    assert [(one["name"], one["samples"], one["read"]) for one in view["data"]] == [("small", 10, 20)]
    done = run("plan", str(folder / "recipe.yaml"), "--data", f"small={folder}/nowhere.tar")
    assert done.returncode == 1 and "nowhere.tar" in done.stderr


HALFWAY = Progress(
    phase=progress.RUNNING, step=12, iterations=20, loss=0.25, rate=1e-3, images_per_second=31.44, seconds_left=75.0,
    waited=0.125, workers=2, checkpoint=10, validation={"iou_fg": 0.625, "threshold": 0.5}, best=8,
    skipped={"small": 3}, restarts=1,
)  # fmt: skip
FIGURES = (
    "step 12 of 20, loss 0.2500, 31.4 images/s on 2 workers, 12% of the time waiting for data, "
    "best IoU_fg 62.5% (step 8), 3 samples skipped, 1 restart, 1:15 left"
)


def looked(storage: Storage) -> tuple[list[str], dict[str, Any]]:
    """What `flawforge status` says, for people and for programs."""
    text, document = run("status", storage.url), run("status", storage.url, "--json")
    assert (text.returncode, document.returncode, text.stderr + document.stderr) == (0, 0, "")
    return text.stdout.splitlines(), json.loads(document.stdout)


def test_status_of_a_training_at_work(folder: Path):
    storage = begun(folder)
    put(storage, holder())
    lines, document = looked(storage)
    assert lines[0] == "at work: the training tiny"
    assert lines[1] == f"data small: 10 samples of {folder}/small.tar, label mask"
    assert lines[2].startswith("run: process 4242 on far, last heartbeat 0:")
    assert len(lines) == 3 and document["progress"] is None
    progress.write(storage, HALFWAY)
    lines, document = looked(storage)
    assert lines[2:4] == [FIGURES, "checkpoint: step 10"] and len(lines) == 5
    assert (document["name"], document["state"], document["lock"]["pid"]) == ("tiny", "at work", 4242)
    assert {**document["progress"], "written": ""} == HALFWAY.document
    assert document["data"][0]["samples"] == 10 and 0 <= document["seconds_since_heartbeat"] < 45


def test_status_of_a_silent_training(folder: Path):
    storage = begun(folder)
    progress.write(storage, HALFWAY)
    put(storage, holder(heartbeat=100))
    lines, document = looked(storage)
    assert lines[0] == "silent: the training tiny" and document["state"] == "silent"
    assert lines[-1] == (
        "no heartbeat: the run was killed or is cut off; the same command takes over and continues"
    )


@pytest.mark.parametrize(
    ("phase", "why", "end"),
    [("stopped", "", ""), ("failed", "the loss is nan", "; the last one failed: the loss is nan")],
)
def test_status_of_a_training_that_ended_early(folder: Path, phase: str, why: str, end: str):
    storage = begun(folder)
    progress.write(storage, replace(HALFWAY, phase=phase, why=why))
    lines, document = looked(storage)
    assert lines[0] == "not finished: the training tiny"
    assert lines[-1] == f"no run is at work{end}; the same command continues"
    assert (document["state"], document["lock"]) == ("not finished", None)
    assert (document["progress"]["phase"], document["progress"]["why"]) == (phase, why)


def test_status_of_a_finished_training(folder: Path):
    storage = begun(folder)
    progress.write(storage, replace(HALFWAY, phase="finished", step=20, checkpoint=20, seconds_left=0.0))
    trained = Trained(
        step=8, steps=20, threshold=0.5, validation={"iou_fg": 0.625}, loss=0.25, seconds=9.0, waited=0.5,
        skipped={}, new_weights=[], digest="d" * 64,
    )  # fmt: skip
    storage.settle("metrics.json", trained.model_dump_json().encode())
    put(storage, holder())  # The run has not given it back yet.
    lines, document = looked(storage)
    assert lines[0] == "finished: the training tiny" and document["state"] == "finished"
    assert lines[2].startswith("step 20 of 20, loss 0.2500") and len(lines) == 3


def test_status_of_a_damaged_training(folder: Path):
    storage = begun(folder)
    for path, content in (
        ("progress.json", b'{"phase": "running", "step": 1, "iterations": 2, "seconds_left": Infinity}'),
        ("progress.json", b'{"phase": "running", "step": 1, "iterations": 2, "validation": {"x": 1.0}}'),
        ("progress.json", b"[" * 10_000),
        (lock.PATH, b"no lock"),
    ):
        storage.replace(path, content)
        assert looked(storage)[0][0] == "not finished: the training tiny"
    storage.replace("training.json", b"{")
    done = run("status", storage.url)
    assert done.returncode == 1 and "training.json is damaged" in done.stderr


def test_figures_that_are_not_known_are_left_out():
    assert words(Progress("running", 0, 1_000)) == "step 0 of 1,000"
    assert words(Progress("running", 1, 2, images_per_second=2.5, workers=1, waited=0.01)) == (
        "step 1 of 2, 2.50 images/s on 1 worker"
    )
