"""A training as a run of MLflow."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from actors.errors import TrainingError
from train.trackers.tracked_run import PROJECT, Figures, TrackedRun

TAG = "flawforge.training"
"""The tag by which a training finds its run again; its value is `TrackedRun.id`."""

_SERVER = "MLFLOW_TRACKING_URI"
_MOST_METRICS, _MOST_PARAMS = 1000, 100
"""Limits of MLflow for one request."""


class MlflowRun:
    """The run with the training's tag, on the server that `MLFLOW_TRACKING_URI` names.

    `MlflowClient` is used, and not the functions of `mlflow`, since these keep a run per thread.

    Raises:
        TrainingError: it names none. MLflow's default is a database, which the client alone cannot open.
        Exception: whatever mlflow raises, here and in the methods.
    """

    def __init__(self, run: TrackedRun) -> None:
        from mlflow import MlflowClient
        from mlflow.entities import Param

        if not os.environ.get(_SERVER):
            raise TrainingError(
                f"{_SERVER} is not set: worker 0; set it to your server and start the training again"
            )
        self._client = MlflowClient()
        experiment = os.environ.get("MLFLOW_EXPERIMENT_ID") or self._experiment()
        found = self._client.search_runs([experiment], f"tags.`{TAG}` = '{run.id}'", max_results=1)
        if found:
            self._id, known = found[0].info.run_id, set(found[0].data.params)
            self._client.update_run(self._id, status="RUNNING")
        else:
            made = self._client.create_run(experiment, run_name=run.name, tags={TAG: run.id})
            self._id, known = made.info.run_id, set()
        # MLflow changes no parameter: a resumed training with another `execution` keeps the first one's.
        params = [Param(key, value) for key, value in flat(run.config) if key not in known]
        for first in range(0, len(params), _MOST_PARAMS):
            self._client.log_batch(self._id, params=params[first : first + _MOST_PARAMS])

    def _experiment(self) -> str:
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        found = self._client.get_experiment_by_name(name)
        return str(found.experiment_id if found else self._client.create_experiment(name))

    def log(self, rows: Sequence[Figures]) -> None:
        """Record the figures; a step that comes again has two points in the curve."""
        from mlflow.entities import Metric

        metrics = [
            Metric(name, value, int(row.time * 1000), row.step)
            for row in rows
            for name, value in row.values.items()
        ]
        for first in range(0, len(metrics), _MOST_METRICS):
            self._client.log_batch(self._id, metrics=metrics[first : first + _MOST_METRICS])

    def finish(self, *, failed: bool) -> None:
        """Mark the run as ended; all figures are recorded already."""
        self._client.set_terminated(self._id, "FAILED" if failed else "FINISHED")


def flat(document: Mapping[Any, Any], path: str = "") -> Iterator[tuple[str, str]]:
    """The values of a nested document as text, each with its dotted path, such as `optimizer.betas.0`."""
    for name, value in document.items():
        inside = dict(enumerate(value)) if isinstance(value, list) else value
        if isinstance(inside, Mapping) and inside:
            yield from flat(inside, f"{path}{name}.")
        else:
            yield f"{path}{name}", str(value)
