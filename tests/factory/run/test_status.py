"""A look at outputs: complete, at work, silent, left; and that no sidecar is read while a run tells the counts."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from actors.errors import OutputError
from factory.output import lock
from factory.output.lock import Holder
from factory.output.manifest import Progress, progress, read_sidecars
from factory.output.plan import read_plan
from factory.run.run_state import RunState, write_state
from factory.run.status import look
from factory.run.tally import Figures
from factory.store.storage import Storage
from tests.factory.maintain.outputs import by_hand, sample


def ago(seconds: float) -> str:
    return (datetime.now(UTC) - timedelta(seconds=seconds)).isoformat(timespec="seconds")


def holder(heartbeat: float = 3, **changes: str | int) -> Holder:
    """Of a machine elsewhere, whose last heartbeat was the given number of seconds ago."""
    given = {"run": "theirs", "host": "far", "pid": 4242, "boot": "", "began": ago(90), **changes}
    return Holder(heartbeat=ago(heartbeat), **given)


def put(storage: Storage, held: Holder) -> None:
    storage.replace(lock.PATH, json.dumps(asdict(held)).encode())


def state(total: Progress, **changes: str) -> RunState:
    figures = Figures(
        total=total, elapsed=80.0, made=2, made_accepted=1, made_shards=1, images_per_second=2.5,
        images_per_second_of_run=0.5, seconds_left=41.0, busy={"load": 0.03, "corrupt": 0.97}, cost=2.25,
        cost_unit="worker-seconds", last_published=ago(4),
    )  # fmt: skip
    about = {
        "name": "20260102T030405Z-0a1b2c3d", "lock": "theirs", "recipe": "small", "digest": "d", "host": "far",
        "pid": 4242, "address": "auto", "began": ago(80), "written": ago(2), "phase": "running", "why": "",
    }  # fmt: skip
    return RunState(**{**about, **changes}, figures=figures)


@pytest.fixture
def output(tmp_path: Path) -> Storage:
    """Three shards of two items; the last one has a reject."""
    groups = [
        [sample(f"{shard}{place}", "s", rejected="spilled" * (shard == 2)) for place in "ab"]
        for shard in range(3)
    ]
    return by_hand(tmp_path / "out", groups, skipped={"md": 2})


def total_of(storage: Storage) -> Progress:
    return progress(read_plan(storage), read_sidecars(storage))


def damage_sidecars(storage: Storage) -> None:
    """Whoever reads one now gets an error."""
    for name in storage.names("stats"):
        storage.replace(f"stats/{name}", b"not to be read")


def test_a_complete_output_without_any_run(output: Storage):
    sight = look(output)
    assert (sight.state, sight.behind, sight.holder, sight.run, sight.log) == (
        "complete",
        0,
        None,
        None,
        None,
    )
    assert sight.total == total_of(output)
    assert (sight.total.accepted, sight.total.rejected, sight.total.done) == (4, 2, 3)


def test_shards_are_missing_and_nobody_is_there(output: Storage):
    output.remove("stats/000001.json")
    sight = look(output)
    assert (sight.state, sight.total.done, sight.total.accepted) == ("not complete", 2, 2)


def test_a_run_at_work_reports_the_counts(output: Storage):
    whole = total_of(output)
    known = replace(whole, done=1, accepted=2, rejected=0, reasons={})
    output.remove("stats/000002.json")
    damage_sidecars(output)
    put(output, holder())
    write_state(output, state(known))
    sight = look(output)
    assert (sight.state, sight.behind) == ("at work", 1)
    assert sight.total == replace(known, done=2)
    assert sight.present is not None and sight.present.figures.images_per_second == 2.5
    assert sight.log == "runs/20260102T030405Z-0a1b2c3d.jsonl"


def test_a_finished_run_has_reported_the_counts(output: Storage):
    whole = total_of(output)
    write_state(output, state(whole, phase="finished"))
    damage_sidecars(output)
    sight = look(output)
    assert (sight.state, sight.total, sight.present) == ("complete", whole, None)


def test_after_a_kill_sidecars_tell_what_the_run_no_longer_can(output: Storage):
    whole = total_of(output)
    output.remove("stats/000002.json")
    began = time.monotonic()
    killed = holder(heartbeat=50)
    put(output, killed)
    write_state(output, state(replace(whole, done=1, accepted=2, rejected=0, reasons={})))
    sight = look(output)
    assert (sight.state, sight.behind) == ("silent", 0)
    assert (sight.total.done, sight.total.accepted, sight.total.rejected) == (2, 4, 0)
    assert 50 <= sight.age(killed.heartbeat) <= 51 + time.monotonic() - began  # heartbeats are whole seconds


def test_a_process_that_ended_on_this_machine_is_silent_at_once(output: Storage):
    output.remove("stats/000002.json")
    put(output, holder(boot=Holder.here().boot, pid=2**22 + 1))
    assert look(output).state == ("silent" if Holder.here().boot else "at work")


def test_a_run_that_has_not_written_yet_is_not_mistaken_for_the_last_one(output: Storage):
    output.remove("stats/000002.json")
    put(output, holder(run="another"))
    write_state(output, state(replace(total_of(output), done=1)))
    sight = look(output)
    assert (sight.state, sight.present) == ("at work", None)
    assert sight.total == total_of(output)


def test_a_state_of_another_plan_does_not_count(output: Storage):
    write_state(output, state(replace(total_of(output), planned=7, accepted=5)))
    assert look(output).total == total_of(output)


def test_a_clock_that_goes_before_makes_no_negative_age(output: Storage):
    put(output, holder(heartbeat=-500))
    output.remove("stats/000002.json")
    sight = look(output)
    assert sight.state == "at work" and sight.holder is not None and sight.age(sight.holder.heartbeat) == 0


def test_no_output_is_an_error(tmp_path: Path):
    with pytest.raises(OutputError, match=r"plan\.parquet is missing"):
        look(Storage(str(tmp_path)))
