"""The main job of training: open the data, run the workers on Ray Train until all steps are done, write the result."""

from __future__ import annotations

import logging
import signal
import tempfile
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from actors.errors import BuildError, FlawforgeError, LockLostError
from factory.output.lock import Lock
from factory.recipe.sections import Pool
from factory.run.signals import heeded
from factory.store.storage import Storage
from train import checkpoint, progress
from train.data.catalogue import DataSet, open_data_set
from train.data.labels import Label
from train.identity import TrainingIdentity, begin, check_folder
from train.leak_guard import keep_apart
from train.places import absolute, place_of
from train.progress import Progress
from train.recipe import TrainingRecipe, dump
from train.scaling import NO_ROOM, failures_of, free_workers, is_lack_of_room, scaling_of, time_outs
from train.trackers.delivery import check_installed
from train.trained import Trained, is_finished, read_trained

log = logging.getLogger(__name__)

_LOOK = 1.0
"""Seconds between two looks at the progress."""

RECIPE = "recipe.yaml"

_GLOO_TIME_OUT = "Timed out waiting"


@dataclass(frozen=True)
class _End:
    """What ended an attempt after which trying again may help.

    Attributes:
        error: for the user.
        crowded: whether it was that its workers did not get their resources.
    """

    error: BuildError
    crowded: bool = False


def train(
    recipe: TrainingRecipe,
    url: str,
    *,
    address: str = "local",
    overwrite: bool = False,
    take_over: bool = False,
    show: Callable[[Progress], None] = lambda progress: None,
    tell: Callable[[str], None] = log.warning,
) -> Trained:
    """Train a model, or go on with a training that was stopped.

    Args:
        recipe: of the training; every data set has its URL.
        url: the output, a folder at any fsspec URL that all workers can reach.
        address: a Ray cluster, or `local` for one of our own on this machine.
        overwrite: delete another training in the output first.
        take_over: even if another run seems to be at work on the output, see `factory.output.lock`.
        show: called with the progress about once a second.
        tell: called with messages for the user.

    Returns:
        The trained model's figures.

    Raises:
        RecipeError: the package of a tracker is not installed.
        TrainingError: the data, the loss or the settings do not allow it.
        OutputError: the output belongs to another training, or cannot be written.
        BuildError: the cluster is too small, or workers were lost too often; the same call goes on.
        LockLostError: another run took the output over.
        Terminated: SIGTERM came; the same call goes on.
    """
    check_installed(recipe.execution.trackers, "here")
    storage = Storage(url)
    with Lock(storage, take_over=take_over, tell=tell) as lock:
        storage = lock.storage
        check_folder(storage)  # The indexes of foreign tars are written to it before anything else.
        written = dump(recipe).encode()  # Before paths of this machine come into it.
        recipe = absolute(recipe)
        data = [_open(storage, one.name, str(one.url), one.label) for one in recipe.data]
        validation = None
        if recipe.validation is not None:
            validation = _open(storage, "validation", recipe.validation.url, "mask")
        data = keep_apart(recipe, data, validation, cache=storage, tell=tell)
        identity = TrainingIdentity.of(recipe, data, validation)
        begin(storage, identity, data, overwrite=overwrite, tell=tell)
        storage.settle(RECIPE, written)
        if not is_finished(storage):
            job = (recipe, identity, tuple(data), validation)
            try:
                _run(storage, *job, address=address, show=show, tell=tell)
            except BaseException as error:
                _note_end(storage, recipe, error)
                raise
            from train.result import write_result  # transformers, which would delay the start

            write_result(storage, recipe, identity)
            progress.write(storage, _last(storage, recipe, progress.FINISHED, ""))
        trained = read_trained(storage)
        show(_last(storage, recipe, progress.FINISHED, ""))
        return trained


def _open(storage: Storage, name: str, url: str, label: Label) -> DataSet:
    return open_data_set(name, place_of(url), label=label, cache=storage)


def _run(
    storage: Storage,
    recipe: TrainingRecipe,
    identity: TrainingIdentity,
    data: tuple[DataSet, ...],
    validation: DataSet | None,
    *,
    address: str,
    show: Callable[[Progress], None],
    tell: Callable[[str], None],
) -> None:
    """Run the workers, again after they were lost, until the training is done."""
    from factory.pipeline.cluster import check_resources, connect
    from train.worker import Job

    execution = recipe.execution
    connect(address)
    pool = Pool(cpus=execution.cpus, gpus=execution.gpus, smallest=execution.fewest, largest=execution.most)
    check_resources({"train": pool}, patience=0 if address == "local" else execution.patience)
    fruitless, restarts, most = 0, 0, execution.most
    with heeded(), _watching(storage, show, tell):
        while True:
            before = checkpoint.steps_of(storage)
            job = Job(
                recipe, identity.digest, data, validation, storage.url, storage.run, restarts, str(Path.cwd())
            )
            end = _attempt(job, most)
            if end is None:
                return
            most = free_workers(execution) if end.crowded else execution.most
            fruitless = 0 if checkpoint.steps_of(storage) != before else fruitless + 1
            if fruitless > execution.retries:
                raise end.error
            restarts += 1
            tell(f"going on from step {(checkpoint.steps_of(storage) or [0])[-1]:,} after: {end.error}")


def _attempt(job: Any, most: int) -> _End | None:
    """Run the workers once; what ended them before the training was done, if trying again may help.

    Args:
        job: for every worker.
        most: workers, where the training is elastic.

    Raises:
        FlawforgeError: what a worker found wrong with data, settings or output.
    """
    import ray.exceptions
    from ray.train import RunConfig
    from ray.train.torch import TorchConfig, TorchTrainer
    from ray.train.v2.api.config import LoggingConfig
    from ray.train.v2.api.exceptions import TrainingFailedError, WorkerGroupError

    from train.worker import work

    execution = job.recipe.execution
    with tempfile.TemporaryDirectory() as folder, _own_signals(), time_outs(execution):
        trainer = TorchTrainer(
            work,
            train_loop_config={"job": job},
            torch_config=TorchConfig(
                backend="nccl" if execution.gpus else "gloo", timeout_s=int(execution.time_out)
            ),
            scaling_config=scaling_of(execution, most),
            run_config=RunConfig(
                name=f"{job.recipe.name}-{uuid.uuid4().hex[:8]}",
                # Nothing of ours is kept there: checkpoints are written to the output.
                storage_path=folder,
                failure_config=failures_of(execution),
                # Idle OpenMP threads that spin take the cores from the workers beside them.
                worker_runtime_env={
                    "env_vars": {"OMP_WAIT_POLICY": "passive", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
                },
                logging_config=LoggingConfig(log_level="ERROR"),
            ),
        )
        try:
            trainer.fit()
        except WorkerGroupError as error:
            return _End(_verdict(error.worker_failures))
        except (TrainingFailedError, ray.exceptions.RayError) as error:
            if is_lack_of_room(error):
                return _End(BuildError(NO_ROOM), crowded=True)
            return _End(BuildError(f"Ray Train ended: {' '.join(str(error).split())[:500]}"))
        return None


def _verdict(failures: dict[int, Exception]) -> BuildError:
    """What to say of failures, by rank, after which trying again may help.

    Raises:
        FlawforgeError: the failure of a worker after which it cannot.
    """
    for failure in failures.values():
        cause = getattr(failure, "_base_exc", failure)
        if isinstance(cause, LockLostError) or (
            isinstance(cause, FlawforgeError) and not isinstance(cause, BuildError)
        ):
            raise cause from None
    return BuildError(f"workers were lost: {_short(failures)}")


def _short(failures: dict[int, Exception]) -> str:
    rank, failure = min(failures.items())
    lines = [line.strip() for line in str(failure).splitlines() if line.strip()]
    words = lines[-1][:300] if lines else type(failure).__name__
    if _GLOO_TIME_OUT in words:
        words = f"another worker did not answer within execution.time_out ({words})"
    return f"worker {rank}: {words}"


@contextmanager
def _own_signals() -> Iterator[None]:
    """Ray Train replaces the handler of SIGINT and leaves its own; and it turns a stop into an exit with code 0."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as stop:
        raise KeyboardInterrupt from stop
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _watching(
    storage: Storage, show: Callable[[Progress], None], tell: Callable[[str], None]
) -> Iterator[None]:
    """Show the progress; tell of trouble with trackers, and of every resize, which Ray Train does by itself."""
    over = threading.Event()
    told = {""}
    workers = 0

    def look() -> None:
        nonlocal workers
        found = progress.read(storage)
        if found is None:
            return
        show(found)
        if found.phase != progress.RUNNING:
            return
        if found.trouble not in told:
            told.add(found.trouble)
            tell(found.trouble)
        if workers and found.workers != workers:
            tell(f"workers: {found.workers} instead of {workers}, from step {found.checkpoint:,} on")
        workers = found.workers

    def watch() -> None:
        while not over.wait(_LOOK):
            look()

    thread = threading.Thread(target=watch, name="training monitor", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        look()


def _note_end(storage: Storage, recipe: TrainingRecipe, error: BaseException) -> None:
    stopped = isinstance(error, KeyboardInterrupt)
    why = "" if stopped else " ".join(str(error).split())[:1000]
    progress.write(storage, _last(storage, recipe, progress.STOPPED if stopped else progress.FAILED, why))


def _last(storage: Storage, recipe: TrainingRecipe, phase: str, why: str) -> Progress:
    found = progress.read(storage) or Progress(phase, 0, recipe.iterations)
    return replace(found, phase=phase, why=why)
