"""Metrics of the stages for Prometheus, through Ray: each node's agent shows them at its MetricsExportPort.

Ray puts `ray_` before every name. Values lag by up to ten seconds. A shard that is made twice is counted twice: the
the content of a data set is counted in its sidecars, not in these counters.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from factory.output.shards.records import Sidecar

log = logging.getLogger(__name__)

SECONDS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0)
"""Upper bounds of the histogram's buckets, for a stage's work on a shard."""


@dataclass(frozen=True)
class Metric:
    """A metric's name, as passed to Ray, its kind, description, and labels."""

    name: str
    kind: str
    description: str
    labels: tuple[str, ...] = ()


IMAGES = Metric(
    "flawforge_images_total",
    "counter",
    "items that a stage worked on: outcome passed or rejected, at the writer accepted or rejected",
    ("stage", "outcome"),
)
REJECTS = Metric("flawforge_rejects_total", "counter", "rejected items in written shards", ("reason",))
STAGE_SECONDS = Metric("flawforge_stage_seconds_total", "counter", "seconds that workers worked", ("stage",))
SHARD_SECONDS = Metric("flawforge_shard_seconds", "histogram", "seconds for one shard", ("stage",))
SHARDS = Metric("flawforge_shards_total", "counter", "written shards")
BYTES = Metric("flawforge_bytes_total", "counter", "bytes of written tars and indexes")
UNET_ROWS = Metric("flawforge_unet_rows_total", "counter", "UNet evaluations")

METRICS = (IMAGES, REJECTS, STAGE_SECONDS, SHARD_SECONDS, SHARDS, BYTES, UNET_ROWS)


class Meter:
    """Counts what one stage does, in the worker that does it. Nothing that goes wrong here reaches the work.

    Args:
        stage: its name.
    """

    def __init__(self, stage: str) -> None:
        self.stage = stage
        self._made: dict[str, Any] | None = None
        self._broken = False

    def worked(self, outcomes: Mapping[str, int], seconds: float) -> None:
        """A shard went through the stage.

        Args:
            outcomes: items by outcome; items that an earlier stage rejected do not count.
            seconds: that it took.
        """
        stage = {"stage": self.stage}
        self._count(
            [
                *((IMAGES, count, {**stage, "outcome": outcome}) for outcome, count in outcomes.items()),
                (STAGE_SECONDS, seconds, stage),
                (SHARD_SECONDS, seconds, stage),
            ]
        )

    def evaluated(self, rows: int) -> None:
        """UNet evaluations were spent."""
        self._count([(UNET_ROWS, rows, {})])

    def wrote(self, sidecar: Sidecar) -> None:
        """A shard was written."""
        size = sidecar.index.bytes + (sidecar.tar.bytes if sidecar.tar else 0)
        rejects = ((REJECTS, count, {"reason": reason}) for reason, count in sidecar.reasons.items())
        self._count([(SHARDS, 1, {}), (BYTES, size, {}), *rejects])

    def _count(self, values: Sequence[tuple[Metric, float, dict[str, str]]]) -> None:
        if self._broken:
            return
        try:
            if self._made is None:
                self._made = {metric.name: _make(metric) for metric in METRICS}
            for metric, value, labels in values:
                made = self._made[metric.name]
                if metric.kind == "histogram":
                    made.observe(value, tags=labels)
                elif value > 0:
                    made.inc(value, tags=labels)
        except Exception as error:  # metrics are no reason to lose a shard
            self._broken = True
            log.warning("stage %s shows no metrics from here on: %r", self.stage, error)


def _make(metric: Metric) -> Any:
    from ray.util import metrics

    if metric.kind == "histogram":
        return metrics.Histogram(
            metric.name, metric.description, boundaries=list(SECONDS), tag_keys=metric.labels
        )
    return metrics.Counter(metric.name, metric.description, tag_keys=metric.labels)
