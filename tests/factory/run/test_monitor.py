"""What a run shows of itself: speeds, busy stages, costs, and the lines off a terminal."""

from __future__ import annotations

import io
import threading
import time
from dataclasses import replace

import pytest
from rich.console import Console

from factory.output.manifest import Progress
from factory.output.shards.records import FileRecord, Sidecar
from factory.recipe.sections import Execution, LightPool, Pool
from factory.run import monitor as monitoring
from factory.run import tally as tallying
from factory.run.monitor import LineMonitor, LiveMonitor, monitor
from factory.run.tally import Tally, clock, pace
from tests.patience import until

THERE = Progress(
    planned=100, retried=0, accepted=30, rejected=10, unverified=0, shards=10, done=4,
    reasons={"unchanged": 10}, skipped={"md": 2}, unet_rows=4000, seconds={"load": 1.0},
)  # fmt: skip

CPUS = Execution(load=LightPool(largest=1), corrupt=Pool(largest=2)).pools
GPUS = Execution(corrupt=Pool(gpus=0.5, largest=4)).pools


def shard(accepted: int, rejected: int, **seconds: float) -> Sidecar:
    return Sidecar(
        schema_version=1, shard=5, digest="d", planned=accepted + rejected, accepted=accepted, rejected=rejected,
        unverified=1, reasons={"spilled": rejected}, unet_rows=7, tar=None,
        index=FileRecord(bytes=1, sha256="s"), seconds=seconds,
    )  # fmt: skip


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that stands still; its one number may be changed."""
    moment = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: moment[0])
    return moment


def test_before_the_first_shard_it_says_that_it_starts(now: list[float]):
    tally = Tally(THERE)
    now[0] += 42
    assert tally.figures().words() == (
        "30 accepted (75%); starting, no shard yet, 0:42; rejects: unchanged 10"
    )
    assert tally.figures().images_per_second is None


def test_progress_within_shards_is_shown_before_the_first_one(now: list[float]):
    tally = Tally(THERE)
    now[0] += 42
    tally.in_flight({"load": 1280, "invert": 16})
    assert tally.figures().words() == (
        "30 accepted (75%); no shard yet, 0:42; in progress: load 1,280, invert 16; rejects: unchanged 10"
    )
    tally.in_flight({})
    assert "starting, no shard yet" in tally.figures().words()


def test_counts_go_on_from_earlier_runs(now: list[float]):
    tally = Tally(THERE)
    now[0] += 4
    tally.add(shard(7, 3, load=0.5, corrupt=2.0))
    total = tally.figures().total
    assert total == replace(
        THERE, accepted=37, rejected=13, unverified=1, done=5, unet_rows=4007,
        reasons={"unchanged": 10, "spilled": 3}, seconds={"load": 1.5, "corrupt": 2.0},
    )  # fmt: skip
    # 10 items in 4 seconds; 50 are left, which takes 20 seconds
    words = tally.figures().words()
    assert words == "37 accepted (74%), 2.50 images/s, 0:20 left; rejects: unchanged 10, spilled 3"


def test_the_recent_speed_knows_nothing_of_the_start(now: list[float]):
    tally = Tally(THERE)
    now[0] += 100  # models are loaded
    tally.add(shard(10, 0))
    for _ in range(3):
        now[0] += 5
        tally.add(shard(10, 0))
    figures = tally.figures()
    assert figures.images_per_second == 30 / 15
    assert figures.images_per_second_of_run == 40 / 115
    assert figures.seconds_left == 20 / 2
    assert figures.elapsed == 115


def test_the_recent_speed_looks_back_a_minute_and_eight_shards(now: list[float]):
    tally = Tally(replace(THERE, planned=10_000))
    for _ in range(50):  # ten a second for 50 seconds
        now[0] += 1
        tally.add(shard(10, 0))
    for _ in range(20):  # then one a second, for 200 seconds
        now[0] += 10
        tally.add(shard(10, 0))
    assert tally.figures().images_per_second == 80 / 80  # eight shards
    for _ in range(100):
        now[0] += 1
        tally.add(shard(5, 0))
    assert tally.figures().images_per_second == 300 / 60  # a minute
    now[0] += 60  # nothing comes any more
    assert tally.figures().images_per_second == 40 / 68


def test_many_workers_that_end_together_do_not_make_the_speed_jump(now: list[float]):
    tally = Tally(THERE, Execution(corrupt=Pool(largest=16)).pools)
    for _ in range(4):
        now[0] += 100
        for _ in range(16):
            tally.add(shard(1, 0))
    # The window begins inside the second burst: 32 items later, 200 seconds on
    assert tally.figures().images_per_second == 32 / 200


def test_a_stage_is_busy_for_its_seconds_among_its_workers(now: list[float]):
    tally = Tally(THERE, CPUS)
    now[0] += 50
    tally.add(shard(5, 5, load=1.0, select=0.0, corrupt=9.0))  # work began at 40 seconds
    assert tally.figures().busy == {"load": 0.1, "select": 0.0, "corrupt": 0.45}
    now[0] += 10
    tally.add(shard(5, 5, load=1.0, select=2.0, corrupt=18.0))
    assert tally.figures().busy == {"load": 2 / 20, "select": 2 / 20, "corrupt": 27 / 40}


def test_a_pool_is_no_larger_than_a_cluster_that_does_not_grow(now: list[float]):
    tally = Tally(THERE, GPUS)
    now[0] += 10
    tally.add(shard(1, 0, corrupt=10.0))
    assert tally.figures().busy["corrupt"] == 0.25
    tally.fit({"CPU": 64, "GPU": 1})  # two workers with half a GPU each
    assert tally.figures().busy["corrupt"] == 0.5
    tally.fit({"CPU": 1.5, "GPU": 1})
    assert tally.figures().busy["corrupt"] == 1.0


def test_the_cost_is_of_this_run_s_samples(now: list[float]):
    tally = Tally(THERE, GPUS)
    tally.add(shard(8, 2, load=5.0, corrupt=32.0))
    figures = tally.figures()
    assert (figures.cost, figures.cost_unit) == (32.0 * 0.5 / 8, "GPU-seconds")
    tally = Tally(THERE, CPUS)
    tally.add(shard(8, 2, load=4.0, corrupt=36.0))
    figures = tally.figures()
    assert (figures.cost, figures.cost_unit) == (5.0, "worker-seconds")
    tally = Tally(THERE, CPUS)
    tally.add(shard(0, 2, load=4.0))
    assert tally.figures().cost is None


def test_all_words_of_a_line(now: list[float]):
    tally = Tally(THERE, GPUS)
    now[0] += 10
    tally.add(shard(8, 2, load=2.0, select=0.0, corrupt=8.0))
    assert tally.figures().words() == (
        "38 accepted (76%), 1.00 images/s, 0:50 left; busy: load 20%, select 0%, corrupt 20%; "
        "0.50 GPU-seconds per accepted; rejects: unchanged 10, spilled 2"
    )


def test_lookers_and_the_adder_do_not_disturb_each_other():
    tally = Tally(THERE, CPUS)
    wrong: list[Exception] = []
    over = threading.Event()

    def watch() -> None:
        while not over.is_set():
            try:
                total = tally.figures().total
                assert total.accepted - 30 == 2 * (total.done - 4)
            except Exception as error:
                wrong.append(error)

    watchers = [threading.Thread(target=watch) for _ in range(3)]
    for one in watchers:
        one.start()
    for number in range(300):
        tally.add(shard(2, 1, **{f"stage {number}": 1.0}))
    over.set()
    for one in watchers:
        one.join()
    assert wrong == [] and tally.done == 40 + 900


def lines_of(view: LineMonitor, text: io.StringIO, count: int) -> list[str]:
    until(lambda: text.getvalue().count("\n"), lambda lines: lines >= count, within=10, every=0.01)
    return text.getvalue().splitlines()


def test_lines_come_from_the_start_and_while_no_shard_ends(monkeypatch: pytest.MonkeyPatch, now: list[float]):
    monkeypatch.setattr(monitoring, "SECONDS_BETWEEN_LINES", 0.01)
    text = io.StringIO()
    with LineMonitor(Console(file=text, width=40)) as view:
        assert lines_of(view, text, 2)[:2] == ["starting, 0:00"] * 2
        before = len(text.getvalue().splitlines())
        view.show(Tally(THERE))
        lines = lines_of(view, text, before + 4)[before + 1 :]
        assert len(lines) >= 3
        expected = "40/100 done: 30 accepted (75%); starting, no shard yet, 0:00; rejects: unchanged 10"
        assert set(lines) == {expected}


def test_a_line_comes_at_once_when_a_step_finishes_its_first_items():
    text = io.StringIO()
    with LineMonitor(Console(file=text, width=40)) as view:
        tally = Tally(THERE)
        view.show(tally)
        tally.in_flight({"load": 8})
        assert lines_of(view, text, 1)[0].endswith("in progress: load 8; rejects: unchanged 10")
        tally.in_flight({"load": 8, "select": 8})  # the next line of the clock is due in half a minute
        assert "in progress: load 8, select 8" in lines_of(view, text, 2)[1]


def test_an_end_before_any_count_says_nothing_more():
    text = io.StringIO()
    with LineMonitor(Console(file=text, width=40)):
        pass
    assert text.getvalue() == ""


def test_the_live_view_shows_bar_and_figures():
    text = io.StringIO()
    console = Console(file=text, width=100, force_terminal=True)
    view = monitor(console)
    assert isinstance(view, LiveMonitor)
    with view:
        tally = Tally(THERE, CPUS)
        tally.add(shard(7, 3, load=0.5, corrupt=2.0))
        view.show(tally)
    shown = text.getvalue()
    assert "50/100 done: 37 accepted (74%)" in shown and "━" in shown
    assert "busy: load" in shown and "rejects: unchanged 10, spilled 3" in shown
    assert tallying.WINDOW == 60


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.4, "0:00"), (59.6, "1:00"), (3599, "59:59"), (93784, "26:03:04")]
)
def test_clocks(seconds: float, words: str):
    assert clock(seconds) == words


@pytest.mark.parametrize(
    ("speed", "words"), [(0.1234, "0.12"), (9.99, "9.99"), (31.44, "31.4"), (12345.6, "12,345.6")]
)
def test_slow_speeds_are_reported_more_exactly(speed: float, words: str):
    assert pace(speed) == words
