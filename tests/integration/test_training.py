"""Training on Ray Train: workers, faults and errors. Losses are compared in float64 with those of other runs."""

from __future__ import annotations

import json
import os
import random
import re
from pathlib import Path

import numpy as np
import pytest

import flawforge
from actors.errors import OutputError, TrainingError
from actors.images import encode_image, encode_mask
from benchmarks.training_faults import BOUND, Fault, compared, disturbed, kill_worker
from factory.output.shards.tar import write_tar
from factory.store.storage import Storage
from train import checkpoint, progress
from train.data.catalogue import open_data_set
from train.distributed import Workers
from train.identity import TrainingIdentity, begin
from train.loop import Loop
from train.recipe import load_training
from train.result import write_result
from train.segmentation import Segmentation

STEPS, BATCH = 40, 4
SIZES = {"one": 9, "two": 5}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two data sets, and the recipe `recipe.yaml` over them."""
    place = tmp_path_factory.mktemp("training")
    for name, count in SIZES.items():
        (place / f"{name}.tar").write_bytes(
            write_tar({f"{name}-{number}": sample(number) for number in range(count)})
        )
    (place / "recipe.yaml").write_text(f"""\
name: tiny
kind: detector
iterations: {STEPS}
batch: {BATCH}
data:
  - {{name: one, url: {place}/one.tar, weight: 3}}
  - {{name: two, url: {place}/two.tar, weight: 1}}
model: {{checkpoint: tinytown/segmenter-convnext, batch_norm: frozen, drop_path: 0.0}}
optimizer: {{learning_rate: 1.0e-3, warm_up: 2}}
precision: float64
execution: {{micro_batch: 2, save_every: 5, log_samples: true, cpus: 0.5}}
""")
    return place


def sample(number: int) -> dict[str, bytes]:
    """Noise with a bright square, which is the artifact."""
    rng = np.random.default_rng(number)
    image = rng.integers(0, 120, (32, 32, 3), dtype=np.uint8)
    mask = np.zeros((32, 32), np.bool_)
    mask[number : number + 12, 4:20] = True
    image[mask] += 100
    return {"image.png": encode_image(image), "mask.png": encode_mask(mask)}


def broken_tar(folder: Path) -> Path:
    """A tar of two samples; the mask of the one with the key `small` has another size than its image."""
    broken = sample(0)
    broken["mask.png"] = encode_mask(np.zeros((16, 16), np.bool_))
    path = folder / "broken.tar"
    path.write_bytes(write_tar({"fine": sample(1), "small": broken}))
    return path


def losses(out: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (out / "log.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def alone(folder: Path) -> Path:
    """The training on one worker, in this process, without Ray."""
    storage = Storage(str(folder / "alone"))
    recipe = load_training(folder / "recipe.yaml")
    data = [open_data_set(one.name, str(one.url), label=one.label, cache=storage) for one in recipe.data]
    identity = TrainingIdentity.of(recipe, data, None)
    begin(storage, identity, data)
    task = Segmentation(recipe, data, None, cache=storage)
    Loop(task, recipe, digest=identity.digest, storage=storage, workers=Workers()).run()
    write_result(storage, recipe, identity)
    return folder / "alone"


@pytest.fixture(scope="module", autouse=True)
def _ray(ray_here: None) -> None:
    """All trainings join one."""


@pytest.mark.slow
def test_two_workers_learn_what_one_does(folder: Path, alone: Path):
    seen = []
    flawforge.train(folder / "recipe.yaml", folder / "two", workers=2, show=seen.append)
    assert losses(folder / "two") == pytest.approx(losses(alone), abs=BOUND)
    assert losses(alone)[-1] < losses(alone)[0]
    assert seen[-1].step == STEPS and seen[-1].workers == 2 and seen[-1].phase == "finished"


def test_a_finished_training_is_not_run_again(folder: Path, alone: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delattr("factory.pipeline.cluster.connect")  # It needs no Ray.
    before = (alone / "metrics.json").stat().st_mtime_ns
    trained = flawforge.train(folder / "recipe.yaml", alone)
    assert (trained.step, trained.steps, trained.threshold) == (STEPS, STEPS, None)
    assert (alone / "metrics.json").stat().st_mtime_ns == before


def test_samples_that_the_validation_also_has_are_refused(folder: Path, tmp_path: Path):
    changes = [f"validation={{url: {folder}/one.tar}}", "keep_apart.shared=refuse"]
    with pytest.raises(TrainingError, match="9 of the 9 samples of the data set one are in a test set, too"):
        flawforge.train(folder / "recipe.yaml", tmp_path / "out", overrides=changes)
    assert not (tmp_path / "out" / "training.json").exists()


@pytest.mark.slow
def test_another_recipe_is_refused_and_overwrites_on_demand(folder: Path, alone: Path):
    flawforge.train(folder / "recipe.yaml", folder / "again", overrides=["iterations=5"])
    with pytest.raises(OutputError, match=r"iterations: 5 -> 6"):
        flawforge.train(folder / "recipe.yaml", folder / "again", overrides=["iterations=6"])
    trained = flawforge.train(
        folder / "recipe.yaml", folder / "again", overrides=["iterations=6"], mode="overwrite"
    )
    assert trained.steps == 6 and len(losses(folder / "again")) == 6


def test_an_error_of_the_data_ends_the_training_at_once(folder: Path, tmp_path: Path):
    places = [f"one={broken_tar(tmp_path)}"]
    told = []
    with pytest.raises(TrainingError, match=r"broken\.tar, small: mask: "):
        flawforge.train(folder / "recipe.yaml", tmp_path / "out", data=places, workers=2, tell=told.append)
    assert told == []  # It was not tried again.
    failed = progress.read(Storage(str(tmp_path / "out")))
    assert failed is not None and failed.phase == "failed" and "broken.tar, small" in failed.why


@pytest.mark.slow
def test_bad_samples_are_counted_on_all_workers(folder: Path, tmp_path: Path):
    places = [f"one={broken_tar(tmp_path)}"]
    skipping = ["bad_samples=skip", "iterations=6"]
    trained = flawforge.train(
        folder / "recipe.yaml", tmp_path / "skip", data=places, workers=2, overrides=skipping
    )
    read = [json.loads(line) for line in (tmp_path / "skip" / "samples.jsonl").read_text().splitlines()]
    assert trained.skipped == {"one": sum(row["key"].endswith("small") for row in read)}
    assert trained.skipped["one"] > 0


def test_a_killed_worker_changes_nothing(folder: Path, alone: Path, monkeypatch: pytest.MonkeyPatch):
    """It gets a SIGKILL in the first look after the first checkpoint."""
    monkeypatch.setattr("train.run._LOOK", 0.02)
    out, chance = folder / "disturbed", random.Random(0)
    kills: list[tuple[int, int]] = []
    told: list[str] = []

    def show(seen: progress.Progress) -> None:
        if seen.checkpoint and not kills:
            kills.append((seen.step, seen.checkpoint))
            kill_worker(os.getpid(), chance)

    flawforge.train(folder / "recipe.yaml", out, workers=2, show=show, tell=told.append)
    assert kills and kills[0][0] < STEPS
    assert len(told) == 1 and re.match(r"going on from step \d+ after: workers were lost", told[0]), told
    result = compared("disturbed", out, alone, tuple(kills), SIZES, BATCH)
    assert result.sound, result
    assert len(checkpoint.steps_of(Storage(str(out)))) == 2


@pytest.mark.slow
def test_a_killed_worker_a_killed_job_and_another_number_of_workers_change_nothing(folder: Path, alone: Path):
    out, faults = folder / "restarted", (Fault("worker"), Fault("job", workers=1))
    kills = disturbed(folder / "recipe.yaml", out, faults, random.Random(0), steps=STEPS)
    result = compared("restarted", out, alone, kills, SIZES, BATCH)
    assert result.sound, result
    assert "going on from step" in Path(f"{out}.txt").read_text()
    assert len(checkpoint.steps_of(Storage(str(out)))) == 2
