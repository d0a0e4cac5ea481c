"""What ends a training, or must not: losses, samples, batch norms, checkpoints and outputs that are no good."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from actors.errors import BadSample, OutputError, TrainingError
from factory.store.storage import Storage
from tests.train.small import (
    Stop,
    drawn,
    edited,
    lines_of,
    loop_of,
    losses_of,
    recipe_of,
    stop_after,
    tar_of,
    weights_of,
)
from train import checkpoint
from train.distributed import Workers
from train.hooks import Hooks, Report


def test_a_loss_that_is_not_finite_ends_the_training(net: Path, tar: Path, tmp_path: Path) -> None:
    """All weights are finite, and the sum over the pixels is not."""

    def huge(weights: dict[str, torch.Tensor]) -> None:
        weights["decode_head.fpn_bottleneck.conv.weight"] *= 1e38
        weights["decode_head.fpn_bottleneck.batch_norm.weight"] *= 1e3

    broken = edited(net, tmp_path / "net", huge)
    recipe = recipe_of(broken, precision="float32")
    words = r"the loss of step 1 is (nan|inf), at a learning rate of 0.000333; worker 0 had the samples 000000/s\d\d, "
    with pytest.raises(TrainingError, match=words):
        loop_of(recipe, tar, tmp_path / "out").run()
    assert not (tmp_path / "out/checkpoints").exists()


def test_a_training_that_diverges_leaves_sound_checkpoints(net: Path, tar: Path, tmp_path: Path) -> None:
    loop = loop_of(recipe_of(net, precision="float32", execution={"save_every": 1, "keep": 9}), tar, tmp_path)

    def diverge(report: Report) -> None:
        if report.step == 3 and report.checkpoint == 3:
            with torch.no_grad():
                next(loop.task.module.parameters()).fill_(3e38)

    loop.hooks = Hooks(report=diverge)
    with pytest.raises(TrainingError, match=r"the loss of step 4 is .* the checkpoints before it are sound"):
        loop.run()
    assert checkpoint.steps_of(Storage(str(tmp_path))) == [1, 2, 3]
    for path in (tmp_path / "checkpoints").glob("*.safetensors"):
        assert all(bool(value.isfinite().all()) for value in load_file(path).values())


def test_a_gradient_that_is_not_finite_ends_the_training_too(net: Path, tar: Path, tmp_path: Path) -> None:
    """The derivative of a square root at 0, times 0: the loss is finite, its gradient is not."""
    loop = loop_of(recipe_of(net, execution={"save_every": 1}), tar, tmp_path)
    classifier = loop.task.module.get_submodule("net.decode_head.classifier")

    def unsteady(module: torch.nn.Module, inputs: object, output: torch.Tensor) -> torch.Tensor:
        return output + (output * 0).sqrt()

    classifier.register_forward_hook(unsteady)
    with pytest.raises(TrainingError, match=r"the norm of the gradient of step 1 is nan, at a learning rate"):
        loop.run()
    assert not (tmp_path / "checkpoints").exists()


def test_bad_samples(net: Path, tmp_path: Path) -> None:
    tar = tar_of(tmp_path / "bad.tar", drawn(9), ("t0.png", b"no image"), ("t0.mask.png", b"no mask"))
    with pytest.raises(BadSample, match=rf"{tar}, t0: image: not a PNG, JPEG or WebP file"):
        loop_of(recipe_of(net, iterations=2), tar, tmp_path / "refuse").run()
    recipe = recipe_of(
        net, iterations=5, bad_samples="skip", execution={"save_every": 3, "log_samples": True}
    )
    with pytest.raises(Stop):
        loop_of(recipe, tar, tmp_path / "skip", hooks=stop_after(4)).run()
    reports: list[Report] = []
    state = loop_of(recipe, tar, tmp_path / "skip", hooks=Hooks(report=reports.append)).run()
    # 40 slots are four passes.
    assert state.skipped == reports[-1].skipped == {"small": 4}
    assert Counter(line["key"] for line in lines_of(tmp_path / "skip", "samples"))["000000/t0"] == 4


@pytest.mark.parametrize("policy", ["frozen", "per_worker"])
def test_a_batch_of_bad_samples_alone(net: Path, tmp_path: Path, policy: str) -> None:
    """Some micro-batches have no image, or one, of which batch norms could compute no statistics."""
    bad = [(f"t{number}.png", b"no image") for number in range(9)]
    tar = tar_of(tmp_path / "bad.tar", drawn(1), *bad)
    recipe = recipe_of(
        net,
        iterations=5,
        batch=4,
        bad_samples="skip",
        model={"batch_norm": policy},
        execution={"micro_batch": 2},
    )
    state = loop_of(recipe, tar, tmp_path / "out").run()
    losses = losses_of(tmp_path / "out")
    assert state.skipped == {"small": 18}
    assert len(losses) == 5 and sum(loss == 0 for loss in losses) >= 3 and max(losses) > 0.1


@pytest.mark.parametrize(
    ("policy", "batch", "micro_batch", "world", "words"),
    [
        ("per_worker", 2, None, 2, "model.batch_norm is per_worker, and a forward pass has one image"),
        ("per_worker", 3, None, 2, "has one image"),
        ("per_worker", 3, 2, 1, "has one image"),
        ("synchronised", 1, None, 1, "model.batch_norm is synchronised, and a forward pass has one image"),
        ("synchronised", 8, 2, 3, "some workers have 1 micro-batches in a step, others 2"),
        ("synchronised", 2, None, 2, ""),
        ("synchronised", 8, 3, 3, ""),
        ("frozen", 2, None, 2, ""),
        ("frozen", 8, 2, 3, ""),
        ("per_worker", 4, None, 2, ""),
    ],
)
def test_batch_norms_that_could_not_work(
    net: Path,
    tar: Path,
    tmp_path: Path,
    policy: str,
    batch: int,
    micro_batch: int | None,
    world: int,
    words: str,
) -> None:
    recipe = recipe_of(net, batch=batch, model={"batch_norm": policy}, execution={"micro_batch": micro_batch})
    if not words:
        loop_of(recipe, tar, tmp_path, workers=Workers(0, world))
        return
    for rank in range(world):
        with pytest.raises(TrainingError, match=words):
            loop_of(recipe, tar, tmp_path, workers=Workers(rank, world))


def test_checkpoints_that_do_not_fit(net: Path, tar: Path, tmp_path: Path) -> None:
    recipe, whole, tmp_path = recipe_of(net, iterations=4), tmp_path / "whole", tmp_path / "out"
    loop_of(recipe, tar, whole).run()
    shutil.copytree(whole / "checkpoints", tmp_path / "checkpoints")
    with pytest.raises(TrainingError, match=f"{tmp_path}: the checkpoint of step 4 is of another training"):
        loop_of(recipe, tar, tmp_path, digest="e" * 64).run()
    storage = Storage(str(tmp_path))
    state = checkpoint.read_state(storage, 4)
    for name, change in (
        ("model", {"net.decode_head.classifier.bias": torch.zeros(3)}),
        ("model", {"more": torch.zeros(3)}),
        ("optimizer", {"0.exp_avg": torch.zeros(1)}),
        ("optimizer", {"exp_avg": torch.zeros(1)}),
        ("optimizer", {"9999.exp_avg": torch.zeros(1)}),
    ):
        tensors = {**weights_of(whole, 4, name), **change}
        files = {**state.files, name: checkpoint.write_tensors(storage, 4, name, tensors)}
        checkpoint.commit(storage, state.model_copy(update={"files": files}))
        with pytest.raises(
            OutputError, match=f"the {name} of the checkpoint of step 4 does not fit this training: "
        ):
            loop_of(recipe, tar, tmp_path).run()
        shutil.copytree(whole / "checkpoints", tmp_path / "checkpoints", dirs_exist_ok=True)


def test_an_output_that_cannot_be_written_keeps_its_checkpoint(net: Path, tar: Path, tmp_path: Path) -> None:
    """A folder stands where the optimizer's file of step 8 should go: the weights are written, and nothing commits."""
    out = tmp_path / "out"
    blocked = out / "checkpoints/000008.optimizer.safetensors"
    blocked.mkdir(parents=True)
    recipe = recipe_of(net, iterations=8, execution={"save_every": 4})
    with pytest.raises(OutputError, match=rf"{blocked.name}: Is a directory"):
        loop_of(recipe, tar, out).run()
    assert (out / "checkpoints/000008.model.safetensors").exists()
    assert checkpoint.steps_of(Storage(str(out))) == [4]
    blocked.rmdir()
    loop_of(recipe, tar, out).run()
    loop_of(recipe, tar, tmp_path / "whole").run()
    assert losses_of(out) == pytest.approx(losses_of(tmp_path / "whole"), rel=0, abs=1e-8)
