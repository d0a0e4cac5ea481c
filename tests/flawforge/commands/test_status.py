"""`flawforge status`: words for people, figures for programs, repeatedly with --watch."""

from __future__ import annotations

import io
import json
import math
import re
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from rich.console import Console

from factory.output import lock
from factory.run.run_state import write_state
from factory.store.storage import Storage
from flawforge.commands.status import show
from tests.commands import run
from tests.factory.maintain.outputs import by_hand, sample
from tests.factory.run.test_status import holder, put, state, total_of


@pytest.fixture
def output(tmp_path: Path) -> Storage:
    """Three of four shards, and a run at work on the last one."""
    groups = [
        [sample(f"{shard}{place}", "s", rejected="spilled" * (shard == 2)) for place in "ab"]
        for shard in range(4)
    ]
    storage = by_hand(tmp_path / "out", groups, skipped={"md": 2})
    (tmp_path / "last").write_bytes(storage.read("stats/000003.json"))
    storage.remove("stats/000003.json")
    write_state(storage, state(total_of(storage)))
    put(storage, holder())
    return storage


def printed(url: str, **options: object) -> list[str]:
    text = io.StringIO()
    show(Console(file=text, width=50), url, **options)
    return text.getvalue().splitlines()


def test_progress_within_shards(output: Storage):
    run_state = state(total_of(output))
    write_state(
        output, replace(run_state, figures=replace(run_state.figures, in_flight={"load": 2, "invert": 1}))
    )
    assert printed(output.url)[7] == "in progress: load 2, invert 1"


def clock_in(line: str, words: str) -> int:
    """Seconds of the clock time in the place of `{}` in words that a line ends in."""
    found = re.search(words.format(r"(\d+):(\d\d)") + "$", line)
    assert found, line
    return 60 * int(found[1]) + int(found[2])


def age(moment: str) -> float:
    """Seconds since a moment, up to the next whole second."""
    return math.ceil((datetime.now(UTC) - datetime.fromisoformat(moment)).total_seconds())


def test_words_of_a_run_at_work(output: Storage):
    lines = printed(output.url)
    assert lines[:5] == [
        "at work: 3 of 4 shards, 8 items planned",
        "accepted 4 (66.7%), rejected 2",
        "rejects: spilled 2",
        "passed over while listing the source: md 2",
        "worker time: load 1.5 s; UNet evaluations 180",
    ]
    assert lines[5].startswith("run: process 4242 on far, since 20")
    heartbeat = json.loads(output.read(lock.PATH))["heartbeat"]
    assert 3 <= clock_in(lines[5], "last heartbeat {} ago") <= age(heartbeat)
    assert lines[6].startswith("2.50 images/s (0.50 over the run), 0:41 left, last shard ")
    assert clock_in(lines[6], "last shard {} ago") >= 4
    assert lines[7:] == [
        "busy: load 3%, corrupt 97%",
        "2.25 worker-seconds per accepted sample",
        f"log: {output.url}/runs/20260102T030405Z-0a1b2c3d.jsonl",
    ]


def test_counts_that_lag_are_told_to_lag(output: Storage):
    write_state(output, state(replace(total_of(output), done=1, accepted=2, rejected=0, reasons={})))
    assert printed(output.url)[:2] == [
        "at work: 3 of 4 shards, 8 items planned",
        "accepted 2 (100.0%), rejected 0; shards newer than these counts: 2",
    ]


def test_a_run_that_only_starts(output: Storage):
    fresh = state(total_of(output))
    fresh = replace(fresh, figures=replace(fresh.figures, images_per_second=None, last_published=None))
    write_state(output, fresh)
    assert clock_in(printed(output.url)[6], "starting, no shard of this run yet, {}") >= 80


def test_a_killed_run_is_told(output: Storage):
    put(output, holder(heartbeat=100))
    lines = printed(output.url)
    assert lines[0].startswith("silent: 3 of 4 shards")
    assert (
        "no heartbeat: the run was killed or is cut off; the same build command takes over and continues"
        in lines
    )
    assert not [line for line in lines if "images/s" in line]


def test_how_the_last_run_ended_is_told(output: Storage):
    output.remove(lock.PATH)
    write_state(output, state(total_of(output), phase="failed", why="no GPU"))
    assert (
        "no run is at work; the last run failed: no GPU; the same build command goes on from there"
        in printed(output.url)
    )


def test_all_figures_as_json(output: Storage):
    report = json.loads(run("status", output.url, "--json").stdout)
    assert (report["state"], report["complete"], report["done"], report["shards"], report["behind"]) == (
        "at work", False, 3, 4, 0,
    )  # fmt: skip
    assert (report["accepted"], report["rejected"], report["reasons"]) == (4, 2, {"spilled": 2})
    assert (report["lock"]["pid"], report["lock"]["host"]) == (4242, "far")
    assert 0 <= report["seconds_since_heartbeat"] < 45
    wanted = {
        "images_per_second": 2.5, "images_per_second_of_run": 0.5, "seconds_left": 41.0, "cost": 2.25,
        "cost_unit": "worker-seconds", "busy": {"load": 0.03, "corrupt": 0.97}, "phase": "running", "recipe": "small",
    }  # fmt: skip
    assert wanted.items() <= report["run"].items()


def test_watching_ends_when_it_is_complete(
    output: Storage, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 2:
            output.publish("stats/000003.json", (tmp_path / "last").read_bytes())
        if len(pauses) == 3:
            output.remove(lock.PATH)

    monkeypatch.setattr(time, "sleep", pause)
    show(Console(), output.url, as_json=True, every=0.5)
    looks = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    report = [(one["state"], one["done"], one["accepted"], one["behind"]) for one in looks]
    assert report == [
        ("at work", 3, 4, 0), ("at work", 3, 4, 0), ("at work", 4, 4, 1), ("complete", 4, 6, 0),
    ]  # fmt: skip
    assert pauses == [0.5] * 3


def test_watching_in_words(output: Storage, tmp_path: Path):
    output.publish("stats/000003.json", (tmp_path / "last").read_bytes())
    output.remove(lock.PATH)
    lines = printed(output.url, every=0.1)
    assert lines[:2] == ["complete: 4 of 4 shards, 8 items planned", "accepted 6 (75.0%), rejected 2"]
    assert lines[-1] == ""


def test_too_short_a_pause_is_usage(output: Storage):
    assert run("status", output.url, "--watch", "0").returncode == 2
