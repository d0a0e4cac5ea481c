"""The lock of an output: held, given back, watched, taken over."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from actors.errors import LockLostError, OutputError
from factory.output import lock
from factory.output.lock import Holder, Lock, read_holder
from factory.store.storage import Storage


@pytest.fixture
def storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Storage:
    monkeypatch.setattr(lock, "HEARTBEAT", 0.05)
    monkeypatch.setattr(lock, "PATIENCE", 0.5)
    return Storage(str(tmp_path))


def elsewhere(**changes: str | int) -> Holder:
    """A holder on another machine, where processes cannot be looked up."""
    return replace(Holder.here(), run="theirs", host="elsewhere", boot="", **changes)


def put(storage: Storage, holder: Holder) -> None:
    storage.replace(lock.PATH, json.dumps(asdict(holder)).encode())


def reported(storage: Storage, **arguments: bool) -> list[str]:
    words: list[str] = []
    with Lock(storage, tell=words.append, **arguments):
        assert json.loads(storage.read(lock.PATH))["pid"] == os.getpid()
    assert not storage.exists(lock.PATH)
    return words


def test_a_free_output_is_locked_and_given_back(storage: Storage):
    assert reported(storage) == []


def test_it_is_given_back_after_an_error(storage: Storage):
    with pytest.raises(ZeroDivisionError), Lock(storage):
        _ = 1 / 0
    assert not storage.exists(lock.PATH)


def test_the_heart_beats_beside_the_lock(storage: Storage):
    with Lock(storage) as held:
        first = storage.read(lock.PATH)
        deadline = time.monotonic() + 30
        while read_holder(storage) == held.holder and time.monotonic() < deadline:
            time.sleep(0.01)
        seen = read_holder(storage)
        assert seen is not None and seen.heartbeat > held.holder.heartbeat
        assert replace(seen, heartbeat=held.holder.heartbeat) == held.holder
        assert storage.read(lock.PATH) == first, "a stopped run could write over its successor's lock"
        held.check()
    assert list(Path(storage.url).iterdir()) == []


def test_two_runs_at_once(storage: Storage):
    """The second one sees the first one's heart beat, and says so."""
    stop = threading.Event()

    def beat() -> None:
        number = 0
        while not stop.wait(0.05):
            number += 1
            put(storage, elsewhere(heartbeat=f"beat {number}"))

    put(storage, elsewhere())
    other = threading.Thread(target=beat)
    other.start()
    words: list[str] = []
    try:
        with (
            pytest.raises(OutputError, match=r"another run is at work there .*elsewhere.* --take-over"),
            Lock(storage, tell=words.append),
        ):
            pass
    finally:
        stop.set()
        other.join()
    assert "watching for" in words[0]
    assert json.loads(storage.read(lock.PATH))["run"] == "theirs"


@pytest.mark.parametrize("heartbeat", ["2001-01-01T00:00:00+00:00", "2199-01-01T00:00:00+00:00", ""])
def test_a_lock_without_a_heartbeat_is_taken_over_whatever_its_clock_says(storage: Storage, heartbeat: str):
    put(storage, elsewhere(heartbeat=heartbeat))
    watching, taking = reported(storage)
    assert "watching for" in watching
    assert taking.startswith("taking over the lock of process") and "elsewhere" in taking


def test_taking_over_by_hand_does_not_wait(storage: Storage):
    put(storage, elsewhere())
    (taking,) = reported(storage, take_over=True)
    assert taking.startswith("taking over")


def test_a_process_of_this_machine_that_has_died_is_not_watched(storage: Storage):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    put(storage, replace(Holder.here(), run="theirs", pid=dead.pid))
    (taking,) = reported(storage)
    assert taking.startswith("taking over")


def test_a_process_of_this_machine_that_lives_is_watched(storage: Storage):
    put(storage, replace(Holder.here(), run="theirs"))
    watching, _ = reported(storage)
    assert "watching for" in watching


@pytest.mark.parametrize("rubbish", [b"", b"{}", b"\xff\xfe", b"[1]", b'{"run": 1}'])
def test_a_damaged_lock_is_nobodys(storage: Storage, rubbish: bytes):
    storage.replace(lock.PATH, rubbish)
    assert reported(storage) == []


@pytest.mark.parametrize("rubbish", [b"", b"yesterday", b"\xff", b"2026-01-01T00:00:00", b"99"])
def test_a_damaged_heartbeat(storage: Storage, rubbish: bytes):
    theirs = elsewhere(heartbeat="2001-01-01T00:00:00+00:00")
    put(storage, theirs)
    storage.replace(f".heartbeat.{theirs.run}", rubbish)
    assert lock.read_holder(storage) == theirs
    put(storage, replace(theirs, heartbeat="never"))
    found = lock.read_holder(storage)
    assert found is not None and found.heartbeat.startswith("1970-01-01")


def test_whoever_was_taken_over_stops_and_leaves_the_lock(storage: Storage):
    with Lock(storage) as held:
        put(storage, elsewhere())
        held._heart.join(10)
        with pytest.raises(
            LockLostError, match=r"taken over by another run .*elsewhere.* nothing is damaged"
        ):
            held.check()
    assert json.loads(storage.read(lock.PATH))["run"] == "theirs"


def unreadable(storage: Storage) -> bytes:
    """Makes every read of the lock fail, as in a store in trouble; returns what it held."""
    path, link = Path(storage.url, lock.PATH), Path(storage.url, "link")
    held = path.read_bytes()
    link.symlink_to(storage.url, target_is_directory=True)
    link.replace(path)
    return held


def test_a_lock_that_cannot_be_read_is_not_lost(storage: Storage, caplog: pytest.LogCaptureFixture):
    with Lock(storage) as held:
        document = unreadable(storage)
        with pytest.raises(OutputError, match=r"cannot read .*lock\.json"):
            held.storage.publish("plan.parquet", b"")
        deadline = time.monotonic() + 30
        while "no heartbeat" not in caplog.text and time.monotonic() < deadline:
            time.sleep(0.01)
        assert "no heartbeat" in caplog.text
        storage.replace(lock.PATH, document)
        before = read_holder(storage)
        while read_holder(storage) == before and time.monotonic() < deadline:
            time.sleep(0.01)
        assert read_holder(storage) != before, "the heart has stopped"
        held.check()
        assert held.storage.publish("plan.parquet", b"")


def test_a_lock_that_cannot_be_read_is_not_taken_over(storage: Storage):
    put(storage, elsewhere())
    unreadable(storage)
    with pytest.raises(OutputError, match=r"cannot read .*lock\.json"), Lock(storage):
        pass
    assert Path(storage.url, lock.PATH).is_symlink()
