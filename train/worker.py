"""What each worker of Ray Train runs: build the task, train, report."""

from __future__ import annotations

import contextlib
import os
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray.train
import ray.train.torch
import torch

from factory.store.storage import Storage
from train import checkpoint
from train.data.catalogue import DataSet
from train.distributed import Workers
from train.hooks import Hooks, Report
from train.recipe import TrainingRecipe
from train.reports import Reports
from train.trackers.delivery import check_installed


@dataclass(frozen=True)
class Job:
    """What a worker gets.

    Attributes:
        recipe: of the training.
        digest: of the training.
        data: the recipe's data sets, in its order.
        validation: None without a validation.
        out: URL of the output.
        run: the run that holds the output's lock.
        restarts: of the workers so far.
        folder: the working folder of the main job.
    """

    recipe: TrainingRecipe
    digest: str
    data: tuple[DataSet, ...]
    validation: DataSet | None
    out: str
    run: str
    restarts: int
    folder: str


def work(config: dict[str, Any]) -> None:
    """Train on this worker, from the latest checkpoint of the output on.

    Args:
        config: the key `job` holds a `Job`.

    Raises:
        FlawforgeError: see `train.loop.Loop.run`.
    """
    # Ray's controller imports this module, too, and needs neither networks nor the loop.
    from train.loop import Loop
    from train.segmentation import Segmentation

    job: Job = config["job"]
    execution = job.recipe.execution
    torch.set_num_threads(execution.threads)
    workers = Workers.of_process(_device(execution.device))
    storage = Storage(job.out, run=job.run)
    task = Segmentation(job.recipe, job.data, job.validation, cache=storage)
    with contextlib.ExitStack() as stack:
        reports = stack.enter_context(_reports(job, storage, workers)) if workers.rank == 0 else None

        def report(found: Report) -> None:
            assert reports is not None
            reports.add(found)

        def saved(figures: dict[str, Any]) -> None:
            ray.train.report(figures)
            if reports is not None:
                reports.copy()

        hooks = Hooks(
            report=report, saved=saved, preempted=lambda: ray.train.get_preemption_info() is not None
        )
        Loop(task, job.recipe, digest=job.digest, storage=storage, workers=workers, hooks=hooks).run()


def _reports(job: Job, storage: Storage, workers: Workers) -> Reports:
    trackers = job.recipe.execution.trackers
    check_installed(trackers, f"on the node of worker 0, {platform.node()}")
    if trackers and Path(job.folder).is_dir():
        # Ray Train's own is a temporary one, in which an offline run would be lost.
        os.chdir(job.folder)
    return Reports(
        job.recipe,
        job.digest,
        storage,
        start=max(checkpoint.steps_of(storage), default=0),
        workers=workers.world,
        restarts=job.restarts,
    )


def _device(name: str) -> torch.device:
    if name == "cpu":
        return torch.device("cpu")
    device: torch.device = ray.train.torch.get_device()
    return device
