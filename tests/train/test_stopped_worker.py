"""A worker that stops answering, and a notice of preemption: two processes that sum with gloo, without Ray."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from datetime import timedelta
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from factory.store.storage import Storage
from tests.forked import CONTEXT
from tests.patience import seconds
from tests.train.small import loop_of, losses_of, recipe_of
from train import checkpoint, loop
from train.distributed import Workers
from train.loop import Hooks
from train.recipe import TrainingRecipe


def _stop_at_the_checkpoint(rank: int, folder: Path) -> Hooks:
    def saved(figures: dict[str, Any]) -> None:
        if rank == 1 and figures["step"] == 3:
            os.kill(os.getpid(), signal.SIGSTOP)

    return Hooks(saved=saved)


def _preempted_at_step_3(rank: int, folder: Path) -> Hooks:
    """All look for a notice after every step, and the third look finds one."""
    loop._PREEMPTION_CHECK = -1.0
    looks: list[bool] = []
    saves: list[int] = []

    def preempted() -> bool:
        looks.append(len(looks) == 2)
        return looks[-1]

    def saved(figures: dict[str, Any]) -> None:
        saves.append(figures["step"])
        (folder / f"saved-{rank}.txt").write_text(f"{saves} after {len(looks)} looks")

    if rank == 1:
        loop._PREEMPTION_CHECK = 1e9  # Only the clock of worker 0 counts.
    return Hooks(preempted=preempted, saved=saved)


def _train(
    rank: int, folder: Path, recipe: TrainingRecipe, tar: Path, hooks: Callable[[int, Path], Hooks]
) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder}/meeting",
        rank=rank,
        world_size=2,
        timeout=timedelta(seconds=recipe.execution.time_out),
    )
    workers = Workers.of_process(torch.device("cpu"))
    try:
        loop_of(recipe, tar, folder / "out", workers=workers, hooks=hooks(rank, folder)).run()
    except RuntimeError as error:
        (folder / f"error-{rank}.txt").write_text(str(error))


def started(
    folder: Path, recipe: TrainingRecipe, tar: Path, hooks: Callable[[int, Path], Hooks]
) -> list[BaseProcess]:
    """Both workers of a training."""
    workers = [CONTEXT.Process(target=_train, args=(rank, folder, recipe, tar, hooks)) for rank in (0, 1)]
    for one in workers:
        one.start()
    return list(workers)


def test_the_others_do_not_wait_for_a_worker_that_stopped(net: Path, tar: Path, tmp_path: Path) -> None:
    """They give up after the recipe's time-out, and the training goes on from the checkpoint."""
    time_out = seconds(5)
    recipe = recipe_of(net, iterations=6, execution={"save_every": 3, "time_out": time_out})
    workers = started(tmp_path, recipe, tar, _stop_at_the_checkpoint)
    try:
        workers[0].join(seconds(120) + 2 * time_out)
        assert workers[0].exitcode == 0
        assert "Timed out waiting" in (tmp_path / "error-0.txt").read_text()
        assert workers[1].is_alive()
    finally:
        for one in workers:
            one.kill()
            one.join()
    out = tmp_path / "out"
    assert checkpoint.steps_of(Storage(str(out))) == [3]
    loop_of(recipe, tar, out).run()
    loop_of(recipe, tar, tmp_path / "undisturbed").run()
    assert losses_of(out) == pytest.approx(losses_of(tmp_path / "undisturbed"), rel=0, abs=1e-8)


def test_a_notice_of_preemption_leads_to_a_checkpoint_on_all_workers(
    net: Path, tar: Path, tmp_path: Path
) -> None:
    recipe = recipe_of(net, iterations=5, execution={"save_every": 100, "keep": 9})
    for one in started(tmp_path, recipe, tar, _preempted_at_step_3):
        one.join(seconds(120))
        assert one.exitcode == 0
    assert not list(tmp_path.glob("error-*.txt"))
    assert checkpoint.steps_of(Storage(str(tmp_path / "out"))) == [3, 5]
    told = [(tmp_path / f"saved-{rank}.txt").read_text() for rank in (0, 1)]
    assert told == ["[3, 5] after 5 looks"] * 2
