"""The files of a run in `runs/`: lines, states, how runs end, what is kept, and trouble with the storage."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path

import fsspec
import pytest

from actors.errors import BuildError
from factory.output.identity import Identity
from factory.output.lock import PATH as LOCK
from factory.output.lock import Holder
from factory.run import run_log, run_record
from factory.run.run_log import RunLog, clear_old, run_name
from factory.run.run_record import RunRecord
from factory.run.run_state import read_state
from factory.run.signals import Terminated
from factory.run.tally import Tally
from factory.store.storage import Storage
from tests.factory.run.test_monitor import CPUS, THERE, shard
from tests.patience import until

IDENTITY = Identity(
    {"seed": 1}, {"corruption": "tinytown@abc"}, {"flawforge": "0.1.0"}, {"corruption": "cpu"}
)
HOLDER = Holder("their-run", "here", 7, "", "2026-01-02T03:04:05+00:00", "2026-01-02T03:04:06+00:00")


def record(url: str) -> RunRecord:
    """Of the run that holds the lock."""
    Storage(url).replace(LOCK, json.dumps(asdict(HOLDER)).encode())
    return RunRecord(url, HOLDER, "small", IDENTITY, Tally(THERE, CPUS), missing=6, address="local")


def events(storage: Storage) -> list[dict[str, object]]:
    (name,) = [name for name in storage.names("runs") if name.endswith(".jsonl")]
    return [json.loads(line) for line in storage.read(f"runs/{name}").decode().splitlines()]


@pytest.fixture(params=["disk", "bucket"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    if request.param == "disk":
        return Storage(str(tmp_path / "out"))
    fsspec.filesystem("memory").store.clear()
    return Storage("memory://bucket/out")


def test_a_run_is_reported_from_begin_to_end(storage: Storage):
    with record(storage.url) as run:
        state = read_state(storage)
        assert state is not None and (state.phase, state.lock, state.figures.total) == (
            "running",
            "their-run",
            THERE,
        )
        run.resources({"CPU": 1.5, "GPU": 0.0, "node:10.0.0.1": 1.0}, grows=False)
        run.trouble(BuildError("Ray gave up"))
        run.published(shard(7, 3, load=0.5, corrupt=2.0))
    lines = events(storage)
    assert [line["event"] for line in lines] == ["begun", "resources", "pass ended", "published", "finished"]
    begun, resources, trouble, published, finished = lines
    expected = {
        "recipe": "small", "digest": IDENTITY.digest, "host": "here", "pid": 7, "address": "local",
        "versions": {"flawforge": "0.1.0"}, "shards_missing": 6, "shards_planned": 10,
    }  # fmt: skip
    assert {key: begun[key] for key in expected} == expected
    assert {"CPU": 1.5, "GPU": 0.0}.items() <= resources.items() and "node:10.0.0.1" not in resources
    assert trouble["trouble"] == "Ray gave up"
    assert (published["shard"], published["accepted"], published["rejected"]) == (5, 7, 3)
    assert published["seconds"] == {"load": 0.5, "corrupt": 2.0}
    assert (finished["shards"], finished["items"], finished["accepted"], finished["planned"]) == (
        1,
        10,
        37,
        100,
    )
    assert finished["cost"] == 2.5 / 7
    times = [datetime.fromisoformat(str(line["time"])) for line in lines]
    assert times == sorted(times) and times[0].tzinfo == UTC
    state = read_state(storage)
    assert state is not None and (state.phase, state.why) == ("finished", "")
    assert state.figures.total == replace(
        THERE, accepted=37, rejected=13, unverified=1, done=5, unet_rows=4007,
        reasons={"unchanged": 10, "spilled": 3}, seconds={"load": 1.5, "corrupt": 2.0},
    )  # fmt: skip
    assert state.figures.busy.keys() == {"load", "select", "corrupt"}


@pytest.mark.parametrize(
    ("end", "event", "facts", "phase"),
    [
        (Terminated(), "stopped", {"by": "SIGTERM"}, ("stopped", "SIGTERM")),
        (KeyboardInterrupt(), "stopped", {"by": "Ctrl-C"}, ("stopped", "Ctrl-C")),
        (BuildError("no GPU"), "failed", {"error": "no GPU", "kind": "BuildError"}, ("failed", "no GPU")),
    ],
)
def test_how_a_run_ended(
    storage: Storage, end: BaseException, event: str, facts: dict[str, object], phase: tuple[str, str]
):
    with pytest.raises(type(end)), record(storage.url):
        raise end
    last = events(storage)[-1]
    assert last["event"] == event and facts.items() <= last.items()
    state = read_state(storage)
    assert state is not None and (state.phase, state.why) == phase


def test_states_are_written_while_nothing_ends(storage: Storage, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(run_record, "SECONDS_BETWEEN_STATES", 0.01)
    with record(storage.url) as run:
        run.tally.add(shard(7, 3))
        seen = until(
            lambda: read_state(storage), lambda state: state.figures.made == 10, within=10, every=0.01
        )
    assert seen.phase == "running" and seen.figures.total.done == 5


def test_on_a_disk_every_line_is_there_at_once(tmp_path: Path):
    log = RunLog(Storage(str(tmp_path)), "r")
    log.note("one", number=1)
    log.note("two")
    lines = [json.loads(line) for line in (tmp_path / "runs/r.jsonl").read_text().splitlines()]
    assert [(line["event"], line.get("number")) for line in lines] == [("one", 1), ("two", None)]


def test_in_a_bucket_lines_wait_for_their_time(monkeypatch: pytest.MonkeyPatch):
    fsspec.filesystem("memory").store.clear()
    storage = Storage("memory://bucket/out")
    now = [0.0]
    monkeypatch.setattr(run_log.time, "monotonic", lambda: now[0])
    writes: list[int] = []
    replace_file = storage.replace
    monkeypatch.setattr(
        storage, "replace", lambda path, data: (writes.append(len(data)), replace_file(path, data))
    )
    log = RunLog(storage, "r")
    log.note("one")
    for moment in (0, 15, 29.9):
        now[0] = moment
        log.flush()
    assert writes == []
    now[0] = 30.0
    log.flush()
    log.flush(now=True)  # nothing new
    assert len(writes) == 1
    log.note("large", words="x" * 6_000_000)
    now[0] = 89.0
    log.flush()
    assert len(writes) == 1  # 6 MB take at least a minute
    now[0] = 90.1
    log.flush()
    assert len(writes) == 2
    log.note("end")
    log.flush(now=True)
    lines = storage.read("runs/r.jsonl").decode().splitlines()
    assert [json.loads(line)["event"] for line in lines] == ["one", "large", "end"]


def test_the_files_of_twenty_runs_are_kept(storage: Storage):
    for day in range(1, 26):
        name = run_name(datetime(2026, 1, day, 10, 0, tzinfo=UTC), "0a1b2c3d")
        storage.replace(f"runs/{name}.jsonl", b"{}\n")
        storage.replace(f"runs/{name}.json", b"{}")
    clear_old(storage)
    left = storage.names("runs")
    assert left[0] == "20260107T100000Z-0a1b2c3d.json" and len(left) == 2 * 19
    with record(storage.url):
        pass
    names = {name.partition(".")[0] for name in storage.names("runs")}
    assert len(names) == 20 and min(names) == "20260107T100000Z-0a1b2c3d"


def test_few_runs_are_all_kept(storage: Storage):
    for day in range(1, 20):
        storage.replace(f"runs/{run_name(datetime(2026, 1, day, tzinfo=UTC), 'x')}.json", b"{}")
    clear_old(storage)
    assert len(storage.names("runs")) == 19


def test_trouble_with_the_record_does_not_end_the_run(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    (tmp_path / "runs").write_text("a file where the folder should be")
    with record(str(tmp_path)) as run:
        run.published(shard(7, 3))
        run.published(shard(7, 3))
    assert run.tally.done == 60
    assert caplog.text.count("the log of the run ends here") == 1
    assert (tmp_path / "runs").read_text() == "a file where the folder should be"


@pytest.mark.parametrize("damage", [b"", b"[]", b"{}", b'{"figures": {"total": {"planned": 1}}}'])
def test_a_state_that_cannot_be_understood_is_none(storage: Storage, damage: bytes):
    storage.replace("runs/20260101T000000Z-x.json", damage)
    assert read_state(storage) is None


def test_a_run_that_lost_the_lock_writes_no_more_of_itself(storage: Storage):
    """Another one may have overwritten the output: its `runs/` is not this run's any more."""
    with record(storage.url) as one:
        storage.replace(LOCK, b'{"run": "another"}')
        before = {name: storage.read(f"runs/{name}") for name in storage.names("runs")}
        one.log.note("published", shard=7)
    assert {name: storage.read(f"runs/{name}") for name in storage.names("runs")} == before
