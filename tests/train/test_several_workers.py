"""Several workers against one: processes that sum their gradients with gloo, without Ray."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from safetensors.torch import load_file
from torch import nn

from tests.forked import CONTEXT
from tests.train.small import drawn, lines_of, loop_of, losses_of, recipe_of, tar_of
from tools.tinytown.segmenter import build
from train.distributed import Workers
from train.recipe import TrainingRecipe

LAST_NORM = {"net.backbone.swin.layernorm.weight", "net.backbone.swin.layernorm.bias"}


def _train(
    rank: int,
    world: int,
    meeting: Path,
    recipe: TrainingRecipe,
    tar: Path,
    out: Path,
    validation: Path | None,
) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=world)
    try:
        workers = Workers.of_process(torch.device("cpu"))
        assert (workers.rank, workers.world) == (rank, world)
        loop_of(recipe, tar, out, workers=workers, validation=validation).run()
        dist.barrier()
    finally:
        dist.destroy_process_group()


def trained_by(
    world: int, recipe: TrainingRecipe, tar: Path, out: Path, *, validation: Path | None = None
) -> Path:
    meeting = out.with_suffix(".meeting")
    meeting.unlink(missing_ok=True)
    job = (world, meeting, recipe, tar, out, validation)
    mp.start_processes(_train, job, nprocs=world, start_method=CONTEXT.get_start_method())  # type: ignore[no-untyped-call]
    return out


def test_two_workers_train_as_one_with_two_micro_batches(net: Path, tar: Path, tmp_path: Path) -> None:
    """With stochastic depth, which is drawn for the slots of a micro-batch."""
    execution = {"log_samples": True, "micro_batch": 4}
    recipe = recipe_of(net, iterations=50, model={"drop_path": 0.3}, execution=execution)
    loop_of(recipe, tar, tmp_path / "one").run()
    two = trained_by(2, recipe, tar, tmp_path / "two")
    assert losses_of(two) == pytest.approx(losses_of(tmp_path / "one"), rel=0, abs=1e-8)
    one = sorted(lines_of(tmp_path / "one", "samples"), key=lambda line: (line["step"], line["slot"]))
    assert sorted(lines_of(two, "samples"), key=lambda line: (line["step"], line["slot"])) == one
    ours, theirs = (
        load_file(out / "checkpoints/000050.model.safetensors") for out in (two, tmp_path / "one")
    )
    assert all(torch.allclose(ours[name], theirs[name], rtol=0, atol=1e-8) for name in theirs)


def test_three_workers_with_unequal_shares_and_another_number_after_a_resume(
    net: Path, tar: Path, tmp_path: Path
) -> None:
    """Of 8 images they have 2, 3 and 3, in micro-batches of 2: the first has one, the others two."""
    whole = recipe_of(net, iterations=8)
    loop_of(whole, tar, tmp_path / "one").run()
    recipe = recipe_of(net, iterations=8, execution={"micro_batch": 2, "save_every": 4, "log_samples": True})
    out = trained_by(3, recipe, tar, tmp_path / "three")
    assert losses_of(out) == pytest.approx(losses_of(tmp_path / "one"), rel=0, abs=1e-8)
    for path in (out / "checkpoints").glob("000008.*"):
        path.unlink()
    loop_of(recipe, tar, out).run()
    assert losses_of(out) == pytest.approx(losses_of(tmp_path / "one"), rel=0, abs=1e-8)
    places = sorted((line["step"], line["slot"]) for line in lines_of(out, "samples"))
    assert places == [(step, slot) for step in range(8) for slot in range(8)]


def test_a_checkpoint_has_the_statistics_that_were_validated(net: Path, tar: Path, tmp_path: Path) -> None:
    """Each worker's batch norms see other images; a checkpoint has those of the first worker."""
    recipe = recipe_of(
        net,
        iterations=3,
        model={"batch_norm": "per_worker"},
        optimizer={"learning_rate": 0.05},
        validation={"url": "x"},
        ema=0.5,
    )
    out = trained_by(2, recipe, tar, tmp_path / "two", validation=tar)
    (found,) = [line["validation"] for line in lines_of(out) if "validation" in line]
    alone = loop_of(recipe, tar, tmp_path / "two", validation=tar)
    alone.run()
    assert alone._averaged is not None
    scores = alone.task.validate(alone.task.network(alone._averaged.module), Workers())
    assert scores.figures == found


@pytest.mark.parametrize("kind", ["convnext", "swin"])
def test_both_backbones_have_a_gradient_for_every_weight(kind: str, tmp_path: Path) -> None:
    """DistributedDataParallel would wait for one that has none. A batch without any known pixel has them too.

    What leads nowhere is not trained: the last norm of Swin, which UperNet does not use.
    """
    build(kind).save_pretrained(tmp_path / "net")
    tar = tar_of(tmp_path / "small.tar", drawn(2, 64))
    loop = loop_of(recipe_of(tmp_path / "net", iterations=1, batch=2), tar, tmp_path / "out")
    for examples in ([], [loop.task.read(0, slot).example for slot in (0, 1)]):
        module: nn.Module = loop.task.module
        module.zero_grad()
        module(loop.task.collate([one for one in examples if one is not None])).backward()
        missing = [name for name, one in module.named_parameters() if one.requires_grad and one.grad is None]
        assert not missing
        frozen = {name for name, one in module.named_parameters() if not one.requires_grad}
        assert frozen == {"swin": LAST_NORM, "convnext": set()}[kind]
        norms = [float(one.grad.norm()) for one in module.parameters() if one.grad is not None]
        assert (max(norms) > 0) == bool(examples)
