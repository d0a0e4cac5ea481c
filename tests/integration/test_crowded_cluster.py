"""An elastic training on a cluster where other work uses a part of the CPUs that Ray counts on."""

from __future__ import annotations

from pathlib import Path

import pytest
import ray

import flawforge
from benchmarks.nodes import cluster

RECIPE = """\
name: crowded
kind: detector
iterations: 3
batch: 2
data: [{name: labelled, url: tinytown/labelled}]
model: {checkpoint: tinytown/segmenter-convnext, batch_norm: frozen}
augmentation: {crop: 32}
execution: {workers: [1, 2], cpus: 1}
"""


@pytest.mark.slow
def test_it_runs_with_the_workers_that_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", "3")

    class Other:
        """Holds a CPU; defined here, since workers cannot import the tests."""

        def started(self) -> None:
            return None

    file, told, seen = tmp_path / "recipe.yaml", [], []
    file.write_text(RECIPE)
    with cluster(2, cpus=1) as nodes:
        ray.init(address=nodes.address, log_to_driver=False)
        try:
            other = ray.remote(num_cpus=1)(Other).remote()
            ray.get(other.started.remote())
            trained = flawforge.train(file, tmp_path / "out", show=seen.append, tell=told.append)
        finally:
            ray.shutdown()
    assert trained.steps == 3
    assert seen[-1].workers == 1
    assert len(told) == 1 and "did not get their CPUs and GPUs in time" in told[0]
