"""A run is watched from another process while it goes on, and its metrics from Prometheus's place."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import subprocess
import urllib.request
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from factory.build import Mode, build
from factory.output.manifest import done_shards, read_sidecars
from factory.recipe.recipe import load_recipe, parse_recipe
from factory.run.run_state import write_state
from factory.run.status import look
from factory.store.storage import Storage
from tests.commands import kill, run, start, start_held_back
from tests.factory.maintain.outputs import by_hand, by_the_stages, sample
from tests.factory.run.test_status import holder, put, state, total_of
from tests.integration.conftest import SMALL, WITHOUT_UNET, content_of
from tests.object_store import S3, FaultyProxy, reached_at
from tests.patience import seconds, until

SHARDS = 12
SOME_REJECTS = ("corruption.method=blur", "verify.least_inside=0.6")

SMALLER = parse_recipe(SMALL, "small.yaml", ["source.limit=2", "output.samples_per_shard=2"])

_SAMPLE = re.compile(r"ray_(flawforge_\w+)\{(.*)\} (\S+)")
_LABEL = re.compile(r'(stage|outcome|reason)="([^"]*)"')


def status(out: Path) -> dict[str, Any]:
    """As another process sees it, which knows nothing but the files."""
    done = run("status", str(out), "--json")
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    return report


@dataclass(frozen=True)
class Evaluated:
    """A build with UNet evaluations: its output, their metric before it, and how many there are."""

    out: Path
    before: float
    rows: int


def log_of(out: Path, number: int) -> list[dict[str, Any]]:
    """Lines of the first run's log, or of a later one's."""
    path = sorted(out.glob("runs/*.jsonl"))[number]
    return [json.loads(line) for line in path.read_text().splitlines()]


def stop(process: subprocess.Popen[str], out: Path) -> str:
    """SIGTERM to the driver, which ends with a sentence, gives the lock back, and leaves no process behind.

    Returns:
        What it printed.
    """
    process.terminate()
    printed, _ = process.communicate(timeout=seconds(120))
    assert process.returncode == 128 + signal.SIGTERM
    assert "stopped by SIGTERM; what is published stays, and the same command goes on from there" in printed
    assert not (out / "lock.json").exists()
    until(lambda: members(process.pid), lambda left: not left, within=60)
    return printed


def members(group: int) -> list[int]:
    """Processes of a group that have not ended."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, its_group = path.read_text().rpartition(")")[2].split()[:3]
            if int(its_group) == group and state != "Z":
                found.append(int(path.parent.name))
    return found


def test_a_run_is_watched_stopped_killed_and_finished(tmp_path: Path):
    """A shard is held back, so that it is at work until it is stopped, and another until it is killed.

    Its bytes are those of an undisturbed one.
    """
    recipe, out, undisturbed = tmp_path / "small.yaml", tmp_path / "out", tmp_path / "undisturbed"
    recipe.write_text(WITHOUT_UNET.replace("limit: 20", f"limit: {2 * SHARDS}"))
    by_the_stages(undisturbed, load_recipe(recipe))
    command = ("build", str(recipe), "--out", str(out))

    def until_published(run: subprocess.Popen[str], shards: int) -> None:
        until(
            lambda: list(out.glob("stats/*.json")),
            lambda names: len(names) >= shards,
            within=300,
            every=0.02,
            unless=lambda: "the run has ended" if run.poll() is not None else "",
        )

    first = start_held_back(tmp_path / "gate", SHARDS // 2, *command)
    try:
        until_published(first, 3)
        report = until(lambda: status(out), lambda report: report["run"]["cost"] is not None, within=60)
        assert (report["state"], report["shards"], report["planned"]) == ("at work", SHARDS, 2 * SHARDS)
        assert report["lock"]["pid"] == report["run"]["pid"] == first.pid
        assert 0 < report["run"]["images_per_second"] < 1000
        assert report["run"]["seconds_left"] > 0
        assert set(report["run"]["busy"]) == {"load", "select", "corrupt"}
        assert 0 < report["run"]["busy"]["corrupt"] <= 1
        assert report["run"]["cost_unit"] == "worker-seconds" and report["run"]["cost"] > 0
        known = report["done"] - report["behind"]
        assert report["accepted"] + report["rejected"] == 2 * known == 2 * report["run"]["made_shards"]
        stop(first, out)
    finally:
        if first.poll() is None:
            kill(first)
    report = status(out)
    made = report["done"]
    assert (report["state"], report["lock"], report["behind"]) == ("not complete", None, 0)
    assert (report["run"]["phase"], report["run"]["why"]) == ("stopped", "SIGTERM")
    events = log_of(out, 0)
    assert [line["event"] for line in events[:2]] == ["begun", "resources"]
    about = (events[0]["shards_missing"], events[0]["shards_planned"], events[0]["recipe"])
    assert about == (SHARDS, SHARDS, "without-unet")
    assert (events[-1]["event"], events[-1]["by"]) == ("stopped", "SIGTERM")
    assert events[1]["CPU"] >= 1

    killed = start_held_back(tmp_path / "gate", SHARDS - 1, *command)
    # Where the first run was stopped late, the shards alone would not show that this one has begun.
    until(lambda: list(out.glob("runs/*.jsonl")), lambda logs: len(logs) == 2, within=300, every=0.02)
    until_published(killed, min(made + 2, SHARDS - 1))
    kill(killed)
    left = len(done_shards(Storage(str(out))))
    assert made <= left < SHARDS and status(out)["state"] != "complete"
    second = log_of(out, 1)
    assert second[0]["shards_missing"] == SHARDS - made

    again = start(*command)
    printed, _ = again.communicate(timeout=seconds(300))
    assert again.returncode == 0 and "taking over the lock of process" in printed, printed
    assert content_of(out) == content_of(undisturbed) and not (out / "lock.json").exists()
    last = log_of(out, 2)
    assert (last[0]["shards_missing"], last[-1]["event"]) == (SHARDS - left, "finished")
    published = [line for line in [*events, *second, *last] if line["event"] == "published"]
    assert {line["shard"] for line in published} <= set(range(SHARDS)) and len(published) <= SHARDS
    sidecars = read_sidecars(Storage(str(out)))
    for line in published:
        sidecar = sidecars[line["shard"]]
        assert (line["accepted"], line["rejected"]) == (sidecar.accepted, sidecar.rejected)
        assert line["seconds"] == sidecar.seconds
    report = status(out)
    totals = json.loads((out / "manifest.json").read_text())["totals"]
    assert (report["state"], report["complete"]) == ("complete", True)
    assert {key: report[key] for key in totals} == totals
    assert (last[-1]["accepted"], last[-1]["rejected"]) == (totals["accepted"], totals["rejected"])
    verified = run("verify", str(out))
    assert verified.returncode == 0 and "0 problems" in verified.stdout, verified.stdout
    assert re.search(r"accepted \(\d+%\)", printed)


@pytest.fixture(scope="module")
def metrics_url(no_ray_before: None) -> Iterator[str]:
    """A Ray whose agents learn of counts twice a second instead of every ten seconds; where they show them."""
    import ray

    ray.init(
        address="local",
        num_cpus=4,
        include_dashboard=False,
        logging_level="error",
        log_to_driver=False,
        _system_config={"metrics_report_interval_ms": 500},
    )
    (node,) = ray.nodes()
    yield f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
    ray.shutdown()


def scrape(url: str) -> Counter[tuple[str, ...]]:
    """Sums over workers, by name and labels of ours."""
    found: Counter[tuple[str, ...]] = Counter()
    try:
        text = urllib.request.urlopen(url, timeout=seconds(20)).read().decode()
    except OSError:  # the agent has not started yet
        return found
    for line in text.splitlines():
        if match := _SAMPLE.fullmatch(line):
            found[match[1], *dict(sorted(_LABEL.findall(match[2]), reverse=True)).values()] += float(match[3])
    return found


def test_the_metrics_say_what_the_sidecars_say(tmp_path: Path, metrics_url: str):
    out = tmp_path / "out"
    changes = [*SOME_REJECTS, "source.limit=36", "output.samples_per_shard=3", "execution.corrupt.largest=2"]
    total = build(parse_recipe(WITHOUT_UNET, "without-unet.yaml", changes), str(out))
    sidecars = read_sidecars(Storage(str(out))).values()
    assert len(sidecars) == SHARDS and total.accepted and total.rejected
    files = [*out.glob("shards/*.tar"), *out.glob("index/*.parquet")]
    expected: dict[tuple[str, ...], float] = {
        ("flawforge_shards_total",): SHARDS,
        ("flawforge_bytes_total",): sum(file.stat().st_size for file in files),
        ("flawforge_images_total", "write", "accepted"): total.accepted,
        ("flawforge_images_total", "write", "rejected"): total.rejected,
        ("flawforge_images_total", "load", "passed"): 36,
        **{("flawforge_rejects_total", reason): count for reason, count in total.reasons.items()},
        **{
            ("flawforge_shard_seconds_count", stage): SHARDS
            for stage in ("load", "select", "corrupt", "write")
        },
    }
    report = until(
        lambda: scrape(metrics_url),
        lambda report: all(report[key] >= value for key, value in expected.items()),
        within=60,
    )
    assert {key: report[key] for key in expected} == expected
    rejected_in = {
        stage: report["flawforge_images_total", stage, "rejected"] for stage in ("load", "select", "corrupt")
    }
    assert sum(rejected_in.values()) == total.rejected
    assert report["flawforge_images_total", "corrupt", "passed"] == total.accepted
    assert report["flawforge_unet_rows_total",] == total.unet_rows == 0
    for stage, took in total.seconds.items():
        # Sidecars round to milliseconds. The histogram's sum is no such figure: Ray hands on buckets, not values.
        assert report["flawforge_stage_seconds_total", stage] == pytest.approx(took, abs=SHARDS * 0.0006)


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory, metrics_url: str) -> Evaluated:
    before = scrape(metrics_url)["flawforge_unet_rows_total",]
    out = tmp_path_factory.mktemp("evaluated") / "out"
    return Evaluated(out, before, build(SMALLER, str(out)).unet_rows)


def test_unet_evaluations_are_counted(metrics_url: str, evaluated: Evaluated):
    assert evaluated.rows > 0
    report = until(
        lambda: scrape(metrics_url)["flawforge_unet_rows_total",],
        lambda report: report >= evaluated.before + evaluated.rows,
        within=60,
    )
    assert report == evaluated.before + evaluated.rows


def test_overwriting_clears_the_runs_of_before(metrics_url: str, evaluated: Evaluated):
    """After `test_unet_evaluations_are_counted`, whose counts it adds to."""
    out = evaluated.out
    content = content_of(out)
    (before,) = out.glob("runs/*.jsonl")
    build(SMALLER, str(out))  # nothing is left to do
    assert len(list(out.glob("runs/*.jsonl"))) == 2
    build(SMALLER, str(out), mode=Mode.OVERWRITE)
    (after,) = out.glob("runs/*.jsonl")
    assert after.name != before.name and content_of(out) == content


def test_ray_shows_what_the_dashboard_asks_for(metrics_url: str):
    """Of the metrics that need no GPU and no Ray Data: those of Ray Data end with their run."""
    dashboard = (Path(__file__).parents[2] / "deploy" / "grafana.json").read_text()
    wanted = set(re.findall(r"\bray_\w+", dashboard))
    text = urllib.request.urlopen(metrics_url, timeout=seconds(20)).read().decode()
    shown = set(re.findall(r"^(ray_\w+)\{", text, re.MULTILINE))
    missing = {name for name in wanted - shown if not name.startswith("ray_data_")}
    assert missing <= {"ray_node_gpus_utilization"}
    assert "SessionName=" in text


def requests_of_a_look(s3: S3, proxy: FaultyProxy, bucket: str, out: Path, shards: int) -> int:
    """How many requests a look takes, while a run is at work on an output with N published shards."""
    groups = [[sample(f"{shard:03d}{place}", "s") for place in "ab"] for shard in range(shards + 1)]
    output = by_hand(out, groups)
    output.remove(f"stats/{shards:06d}.json")
    write_state(output, state(total_of(output)))
    put(output, holder())
    for file in filter(Path.is_file, out.rglob("*")):
        s3.client.put_object(Bucket=bucket, Key=f"{out.name}/{file.relative_to(out)}", Body=file.read_bytes())
    with reached_at(proxy.endpoint):
        before = proxy.requests
        sight = look(Storage(f"s3://{bucket}/{out.name}"))
    assert (sight.state, sight.behind, sight.total.accepted) == ("at work", 0, 2 * shards)
    assert sight.present is not None and sight.present.figures.busy == {"load": 0.03, "corrupt": 0.97}
    return proxy.requests - before


def test_a_look_into_a_bucket_takes_as_many_requests_for_many_shards_as_for_few(
    tmp_path: Path, s3: S3, proxy: FaultyProxy, bucket: str
):
    few = requests_of_a_look(s3, proxy, bucket, tmp_path / "few", 2)
    many = requests_of_a_look(s3, proxy, bucket, tmp_path / "many", 30)
    print(f"{few} requests for 2 shards, {many} for 30")
    assert many == few <= 16
