"""Trainings in a bucket and on a disk: a real S3 server, also behind a proxy that does what busy stores do."""

from __future__ import annotations

import json
from collections import deque
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from actors.errors import LockLostError
from factory.output.lock import Lock
from factory.store.retries import Patience
from factory.store.storage import Storage
from tests.factory.maintain.outputs import by_hand, sample
from tests.object_store import FAULTS, S3, FaultyProxy, Schedule, reached_at
from tests.train.curve_events import events
from tests.train.small import Stop, drawn, recipe_of, tar_of
from tests.upernet import save_upernet
from train import checkpoint
from train.curves import Curves
from train.data.catalogue import open_data_set
from train.distributed import Workers
from train.identity import TrainingIdentity, begin
from train.loop import Hooks, Loop, Report
from train.recipe import TrainingRecipe, with_data
from train.result import write_result
from train.segmentation import Segmentation

QUICK = Patience(seconds=60.0, first=0.01, longest=0.05)
TIMES = ("seconds", "waited")
"""Keys of the log and of the figures that no two trainings share."""

Files = dict[str, bytes]


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_upernet(tmp_path_factory.mktemp("net"))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An output of three shards, and two tars of other programs."""
    folder = tmp_path_factory.mktemp("data")
    by_hand(
        folder / "output",
        [[sample(f"k{shard}{row}", "s", side=32) for row in range(4)] for shard in range(3)],
    )
    tar_of(folder / "tars/a.tar", drawn(6))
    tar_of(folder / "tars/b.tar", drawn(5, seed=1))
    return folder


def upload(s3: S3, bucket: str, folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            s3.client.put_object(Bucket=bucket, Key=str(path.relative_to(folder)), Body=path.read_bytes())


def recipe_over(net: Path, root: str, kind: str) -> TrainingRecipe:
    recipe = recipe_of(
        net,
        iterations=8,
        batch=4,
        validation={"url": f"{root}/tars/b.tar", "every": 4},
        execution={"save_every": 3, "log_samples": True, "keep": 9},
    )
    return with_data(recipe, [f"{root}/{kind}"])


def train(recipe: TrainingRecipe, storage: Storage, hooks: Hooks | None = None) -> None:
    """What `train.run.train` and a worker of it do, without Ray."""
    (one,) = recipe.data
    assert recipe.validation is not None
    data = open_data_set(one.name, str(one.url), label="mask", cache=storage)
    validation = open_data_set("validation", recipe.validation.url, label="mask", cache=storage)
    identity = TrainingIdentity.of(recipe, [data], validation)
    begin(storage, identity, [data])
    task = Segmentation(recipe, [data], validation, cache=storage)
    digest = identity.digest
    Loop(task, recipe, digest=digest, storage=storage, workers=Workers(), hooks=hooks).run()
    write_result(storage, recipe, identity)


def local_files(out: Path) -> Files:
    return {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.is_file()}


def stored_files(s3: S3, bucket: str) -> Files:
    keys = [key for key in s3.objects(bucket) if key.startswith("out/")]
    return {key.removeprefix("out/"): s3.bytes_of(bucket, key) for key in keys}


def comparable(files: Files, root: str) -> dict[str, Any]:
    """All files, without times, and with the place of the data out of those that name it."""
    return {name: _comparable(name, data.replace(root.encode(), b"ROOT")) for name, data in files.items()}


def _comparable(name: str, data: bytes) -> Any:
    if name.startswith("log"):
        return [_timeless(json.loads(line)) for line in data.splitlines()]
    if name == "metrics.json":
        return _timeless(json.loads(data))
    if name.startswith("index/"):
        return None  # It has the sizes and times of the tars.
    return data


def _timeless(document: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in document.items() if key not in TIMES}


@pytest.fixture(scope="module", params=["output", "tars"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def on_disk(net: Path, data: Path, kind: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The files of the training whose data and output are on the disk."""
    out = tmp_path_factory.mktemp("disk")
    train(recipe_over(net, str(data), kind), Storage(str(out)))
    return comparable(local_files(out), str(data))


def check_same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    """File by file; the names of indexes have the place of the tars in them."""
    assert [name for name in expected if name.startswith("checkpoints/000008.")]
    plain = {name: value for name, value in expected.items() if not name.startswith("index/")}
    assert {name for name in found if not name.startswith("index/")} == set(plain)
    assert [name for name in plain if found[name] != plain[name]] == []
    assert len(found) == len(expected)


def test_from_a_bucket_and_from_a_disk_the_same(
    net: Path, data: Path, kind: str, on_disk: dict[str, Any], s3: S3, bucket: str
) -> None:
    upload(s3, bucket, data)
    with reached_at(s3.endpoint):
        train(recipe_over(net, f"s3://{bucket}", kind), Storage(f"s3://{bucket}/out"))
    assert len(on_disk["log.jsonl"]) == 8 and len(on_disk["samples.jsonl"].splitlines()) == 32
    check_same(comparable(stored_files(s3, bucket), f"s3://{bucket}"), on_disk)


def test_through_a_faulty_network_the_same(
    net: Path, data: Path, kind: str, on_disk: dict[str, Any], s3: S3, bucket: str, proxy: FaultyProxy
) -> None:
    """Drops, 500, 503, 429 and short downloads, also where the server has done what was asked."""
    upload(s3, bucket, data)
    with reached_at(proxy.endpoint, AWS_MAX_ATTEMPTS="1"):
        proxy.schedule = in_turns(5)
        train(recipe_over(net, f"s3://{bucket}", kind), Storage(f"s3://{bucket}/out", QUICK))
    assert {"drop", "500", "503", "429", "short download"} <= set(proxy.faults), proxy.faults
    check_same(comparable(stored_files(s3, bucket), f"s3://{bucket}"), on_disk)


def in_turns(every: int) -> Schedule:
    """All faults in their turn, one for so many requests; one that does not fit a request is left out."""
    turns, requests = deque(FAULTS), count(1)

    def schedule(method: str, size: int) -> str:
        if next(requests) % every:
            return ""
        for _ in FAULTS:
            turns.rotate()
            if ("download" not in turns[0] or method == "GET") and ("upload" not in turns[0] or size):
                break
        return turns[0]

    return schedule


def stop_after(step: int) -> Hooks:
    def report(found: Report) -> None:
        if found.step == step:
            raise Stop

    return Hooks(report=report)


def test_a_training_goes_on_in_a_bucket(
    net: Path, data: Path, kind: str, on_disk: dict[str, Any], s3: S3, bucket: str
) -> None:
    """It stops before the first checkpoint, and two steps after the checkpoint of step 3."""
    upload(s3, bucket, data)
    recipe = recipe_over(net, f"s3://{bucket}", kind)
    with reached_at(s3.endpoint):
        storage = Storage(f"s3://{bucket}/out")
        for step in (2, 5):
            with pytest.raises(Stop):
                train(recipe, storage, stop_after(step))
        assert checkpoint.steps_of(storage) == [3, 4]
        train(recipe, storage)
    check_same(comparable(stored_files(s3, bucket), f"s3://{bucket}"), on_disk)


def test_a_training_whose_lock_was_taken_over_writes_nothing_more(
    net: Path, data: Path, s3: S3, bucket: str
) -> None:
    upload(s3, bucket, data)
    steps: list[int] = []

    def everything() -> Files:
        return {name: data for name, data in stored_files(s3, bucket).items() if ".heartbeat" not in name}

    with reached_at(s3.endpoint), ExitStack() as stack:
        plain = Storage(f"s3://{bucket}/out")
        lock = stack.enter_context(Lock(plain))
        taken: list[Files] = []

        def report(found: Report) -> None:
            steps.append(found.step)
            if found.step == 5:
                stack.enter_context(Lock(plain, take_over=True, tell=lambda text: None))
                taken.append(everything())

        with pytest.raises(LockLostError):
            train(recipe_over(net, f"s3://{bucket}", "tars"), lock.storage, Hooks(report=report))
        assert [everything()] == taken
        assert steps[-1] == 6  # The next checkpoint would be that of step 6.
        assert checkpoint.steps_of(plain) == [3, 4]


def test_curves_are_copied_to_the_bucket(net: Path, data: Path, s3: S3, bucket: str) -> None:
    """At every checkpoint, and at the end; what a training that stopped had copied stays."""
    upload(s3, bucket, data)
    recipe = recipe_over(net, f"s3://{bucket}", "tars")
    sizes: list[int] = []

    def size() -> int:
        return sum(
            size for key, size in s3.objects(bucket).items() if key.startswith("out/tensorboard/events.")
        )

    def train_with_curves(storage: Storage, last: int) -> None:
        with Curves(storage, max(checkpoint.steps_of(storage), default=0)) as curves:

            def report(found: Report) -> None:
                if found.step == last:
                    raise Stop
                curves.add(found)

            def saved(figures: dict[str, Any]) -> None:
                curves.copy()
                sizes.append(size())

            train(recipe, storage, Hooks(report=report, saved=saved))

    with reached_at(s3.endpoint):
        storage = Storage(f"s3://{bucket}/out")
        with pytest.raises(Stop):
            train_with_curves(storage, 6)
        train_with_curves(storage, 0)
    assert 0 < sizes[0] < sizes[1] < sizes[2] < sizes[3]
    files = [data for name, data in stored_files(s3, bucket).items() if name.startswith("tensorboard/")]
    assert len(files) == 2
    losses = {
        event.step: value.simple_value
        for data in files
        for event in events(data)
        for value in event.summary.value
        if value.tag == "train/loss"
    }
    log = [json.loads(line) for line in s3.bytes_of(bucket, "out/log.jsonl").splitlines()]
    assert losses == {line["step"]: pytest.approx(line["loss"], rel=1e-6) for line in log}


def test_curves_of_one_second_are_two_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A training that is started again within the second in which it was stopped."""
    monkeypatch.setattr("time.time", lambda: 1_000_000_000.0)
    for start in (0, 0, 3):
        with Curves(Storage(str(tmp_path)), start):
            pass
    assert len(list(tmp_path.glob("tensorboard/events.out.tfevents.1000000000.*"))) == 3
