"""What each worker of Ray Train runs: build the task, train, report."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any

import ray.train
import ray.train.torch
import torch

from factory.store.storage import Storage
from train import checkpoint
from train.curves import Curves
from train.data.catalogue import DataSet
from train.distributed import Workers
from train.hooks import Hooks, Report
from train.progress import RUNNING, Progress, ProgressFile
from train.recipe import TrainingRecipe


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
    """

    recipe: TrainingRecipe
    digest: str
    data: tuple[DataSet, ...]
    validation: DataSet | None
    out: str
    run: str
    restarts: int


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
    file = ProgressFile(storage)
    task = Segmentation(job.recipe, job.data, job.validation, cache=storage)
    with contextlib.ExitStack() as stack:
        start = max(checkpoint.steps_of(storage), default=0)
        curves = stack.enter_context(Curves(storage, start)) if workers.rank == 0 else None

        def report(found: Report) -> None:
            assert curves is not None
            curves.add(found)
            if file.due or found.step in (found.checkpoint, job.recipe.iterations):
                file.write(_progress(found, job, workers))

        def saved(figures: dict[str, Any]) -> None:
            ray.train.report(figures)
            if curves is not None:
                curves.copy()

        hooks = Hooks(
            report=report, saved=saved, preempted=lambda: ray.train.get_preemption_info() is not None
        )
        Loop(task, job.recipe, digest=job.digest, storage=storage, workers=workers, hooks=hooks).run()


def _device(name: str) -> torch.device:
    if name == "cpu":
        return torch.device("cpu")
    device: torch.device = ray.train.torch.get_device()
    return device


def _progress(report: Report, job: Job, workers: Workers) -> Progress:
    recipe = job.recipe
    left = (recipe.iterations - report.step) * recipe.batch
    best = report.best
    return Progress(
        phase=RUNNING,
        step=report.step,
        iterations=recipe.iterations,
        loss=report.loss,
        rate=report.rate,
        images_per_second=report.images_per_second,
        seconds_left=left / report.images_per_second if report.images_per_second else None,
        waited=report.waited,
        workers=workers.world,
        checkpoint=report.checkpoint,
        validation=best.figures if best else None,
        best=best.step if best else None,
        skipped=report.skipped,
        restarts=job.restarts,
    )
