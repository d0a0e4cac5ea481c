"""Meters count what stages do, and never get in their way. That Ray shows the counts: tests/integration."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from actors.batch import Sample
from factory.output.identity import Identity
from factory.output.schema import ShardOfSamples, from_table, to_table
from factory.output.shards.records import FileRecord, Sidecar
from factory.pipeline.stages import SelectRegions
from factory.recipe.recipe import parse_recipe
from factory.run import metrics
from factory.run.metrics import METRICS, Meter
from tests.factory.maintain.outputs import sample

RECIPE = """
name: metered
source: {kind: tinytown, limit: 3, size: 64}
regions: {kind: source, smallest_area: 0.9, largest_area: 1.0}
"""


class Ledger:
    """In the place of Ray: writes down what is counted."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.values: dict[tuple[str, ...], list[float]] = {}
        monkeypatch.setattr(metrics, "_make", lambda metric: _Page(self, metric))

    def totals(self) -> dict[tuple[str, ...], float]:
        return {key: sum(values) for key, values in self.values.items()}


class _Page:
    def __init__(self, ledger: Ledger, metric: metrics.Metric) -> None:
        self.ledger, self.metric = ledger, metric

    def inc(self, value: float, tags: dict[str, str]) -> None:
        assert value > 0 and tuple(tags) == self.metric.labels
        self.ledger.values.setdefault((self.metric.name, *tags.values()), []).append(value)

    observe = inc


@pytest.fixture
def ledger(monkeypatch: pytest.MonkeyPatch) -> Ledger:
    return Ledger(monkeypatch)


def test_what_a_stage_counts(ledger: Ledger):
    meter = Meter("corrupt")
    meter.worked({"passed": 7, "rejected": 2}, 3.5)
    meter.worked({"passed": 1, "rejected": 0}, 0.5)
    meter.evaluated(300)
    meter.evaluated(0)
    assert ledger.totals() == {
        ("flawforge_images_total", "corrupt", "passed"): 8,
        ("flawforge_images_total", "corrupt", "rejected"): 2,
        ("flawforge_stage_seconds_total", "corrupt"): 4.0,
        ("flawforge_shard_seconds", "corrupt"): 4.0,
        ("flawforge_unet_rows_total",): 300,
    }


@pytest.mark.parametrize(("tar", "size"), [(FileRecord(bytes=100, sha256="s"), 130), (None, 30)])
def test_what_the_writer_counts(ledger: Ledger, tar: FileRecord | None, size: int):
    sidecar = Sidecar(
        schema_version=1, shard=5, digest="d", planned=9, accepted=4, rejected=5, unverified=0, unet_rows=1, seconds={},
        reasons={"spilled": 3, "unchanged": 2}, tar=tar, index=FileRecord(bytes=30, sha256="s"),
    )  # fmt: skip
    Meter("write").wrote(sidecar)
    assert ledger.totals() == {
        ("flawforge_shards_total",): 1,
        ("flawforge_bytes_total",): size,
        ("flawforge_rejects_total", "spilled"): 3,
        ("flawforge_rejects_total", "unchanged"): 2,
    }


def select(tmp_path: Path, samples: list[Sample]) -> list[Sample]:
    """Samples after the stage of that name, which finds every region too small."""
    recipe = parse_recipe(RECIPE, "metered.yaml")
    stage = SelectRegions(recipe, str(tmp_path), Identity.of(recipe))
    table: pa.Table = stage(to_table(ShardOfSamples(0, samples)))
    return from_table(table).samples


def test_a_stage_counts_no_reject_of_another_one(ledger: Ledger, tmp_path: Path):
    samples = select(tmp_path, [sample("a", "s"), sample("b", "s", rejected="too_small"), sample("c", "s")])
    assert [one.reason for one in samples][1] == "too_small" and all(one.rejected for one in samples)
    counted = ledger.totals()
    assert counted["flawforge_images_total", "select", "rejected"] == 2
    assert ("flawforge_images_total", "select", "passed") not in counted
    assert ("flawforge_unet_rows_total",) not in counted  # the rows that samples came with
    assert counted["flawforge_stage_seconds_total", "select"] > 0


def test_metrics_that_fail_are_reported_once_and_fail_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    def broken(metric: metrics.Metric) -> Any:
        raise RuntimeError("no agent")

    monkeypatch.setattr(metrics, "_make", broken)
    with caplog.at_level(logging.WARNING):
        assert len(select(tmp_path, [sample("a", "s")])) == 1
    assert caplog.text.count("stage select shows no metrics from here on") == 1


def test_names_are_those_of_prometheus():
    names = [metric.name for metric in METRICS]
    assert len(set(names)) == len(names) == 7
    for metric in METRICS:
        assert metric.name.endswith("_total") == (metric.kind == "counter")
        assert metric.description
