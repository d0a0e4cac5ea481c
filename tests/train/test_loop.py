"""The loop on one worker: resuming, micro-batches, what is saved, and what ends a training."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from actors.errors import BadSample, OutputError, TrainingError
from factory.store.storage import Storage
from tests.train.small import SmallLoop, Stop, drawn, lines_of, loop_of, losses_of, recipe_of, tar_of
from tests.upernet import save_upernet
from train import checkpoint
from train.distributed import Workers
from train.hooks import Hooks, Report
from train.task import Scores


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_upernet(tmp_path_factory.mktemp("net"))


@pytest.fixture(scope="module")
def tar(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tar_of(tmp_path_factory.mktemp("data") / "small.tar", drawn(10))


@pytest.fixture(scope="module")
def undisturbed(net: Path, tar: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("undisturbed")
    loop_of(recipe_of(net, execution={"log_samples": True}), tar, out).run()
    return out


def stop_after(step: int) -> Hooks:
    def report(found: Report) -> None:
        if found.step == step:
            raise Stop

    return Hooks(report=report)


def weights_of(out: Path, step: int, kind: str = "model") -> dict[str, torch.Tensor]:
    return load_file(out / f"checkpoints/{step:06d}.{kind}.safetensors")


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor], tolerance: float = 1e-8) -> bool:
    assert one.keys() == other.keys()
    return all(torch.allclose(one[name], other[name], rtol=0, atol=tolerance) for name in one)


def edited(net: Path, folder: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> Path:
    shutil.copytree(net, folder)
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    return folder


@pytest.mark.parametrize("stops", [(5,), (7,), (12, 16)])
def test_a_resumed_training_equals_an_undisturbed_one(
    net: Path, tar: Path, undisturbed: Path, tmp_path: Path, stops: tuple[int, ...]
) -> None:
    """It stops before the first checkpoint (step 7), at one, and twice after one, which drops steps that were done."""
    recipe = recipe_of(net, execution={"log_samples": True})
    for step in stops:
        with pytest.raises(Stop):
            loop_of(recipe, tar, tmp_path, hooks=stop_after(step)).run()
    state = loop_of(recipe, tar, tmp_path).run()
    assert state.step == 20
    assert [line["step"] for line in lines_of(tmp_path)] == list(range(1, 21))
    assert losses_of(tmp_path) == pytest.approx(losses_of(undisturbed), rel=0, abs=1e-8)
    assert same(weights_of(tmp_path, 20), weights_of(undisturbed, 20))
    assert lines_of(tmp_path, "samples") == lines_of(undisturbed, "samples")


def test_the_loss_falls_and_the_log_has_rates(undisturbed: Path) -> None:
    lines = lines_of(undisturbed)
    assert np.mean(losses_of(undisturbed)[-5:]) < losses_of(undisturbed)[0] - 0.005
    # A warm-up of 3 steps, then a linear decay over 17.
    expected = [1e-3 / 3, 2e-3 / 3, 1e-3, *(1e-3 * (1 - step / 17) for step in range(17))]
    assert [line["lr"] for line in lines] == pytest.approx(expected)
    assert all(line["seconds"] > 0 and line["waited"] >= 0 for line in lines)


def test_every_pass_reads_every_sample_once(undisturbed: Path) -> None:
    """20 steps of 8 are 16 passes of 10 images."""
    lines = lines_of(undisturbed, "samples")
    assert [(line["step"], line["slot"]) for line in lines] == [
        (s, slot) for s in range(20) for slot in range(8)
    ]
    keys = [line["key"] for line in lines]
    for first in range(0, 160, 10):
        assert sorted(keys[first : first + 10]) == [f"000000/s{number:02d}" for number in range(10)]


def test_micro_batches_change_nothing(net: Path, tar: Path, undisturbed: Path, tmp_path: Path) -> None:
    """Micro-batches of 4, and of 3, 3 and 2."""
    for size in (4, 3):
        out = tmp_path / str(size)
        loop_of(recipe_of(net, execution={"micro_batch": size}), tar, out).run()
        assert losses_of(out) == pytest.approx(losses_of(undisturbed), rel=0, abs=1e-8)


def test_stochastic_depth_and_augmentation_resume_too(net: Path, tar: Path, tmp_path: Path) -> None:
    def deep(weights: dict[str, torch.Tensor]) -> None:
        """The usual scale of 1e-6 would hide which blocks are dropped."""
        for name in weights:
            if name.endswith("layer_scale_parameter"):
                weights[name].fill_(1)

    net = edited(net, tmp_path / "net", deep)
    recipe = recipe_of(
        net,
        iterations=8,
        model={"drop_path": 0.5},
        augmentation={"resize": (0.5, 2.0), "crop": 32, "colour": 0.1},
        execution={"save_every": 3},
    )
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    loop_of(recipe, tar, whole).run()
    with pytest.raises(Stop):
        loop_of(recipe, tar, resumed, hooks=stop_after(5)).run()
    loop_of(recipe, tar, resumed).run()
    assert losses_of(resumed) == pytest.approx(losses_of(whole), rel=0, abs=1e-8)
    still = tmp_path / "still"
    loop_of(recipe.model_copy(update={"model": recipe_of(net).model}), tar, still).run()
    assert losses_of(still)[0] != pytest.approx(losses_of(whole)[0], abs=1e-7)


def test_checkpoints_are_pruned(net: Path, tar: Path, tmp_path: Path) -> None:
    loop_of(recipe_of(net, iterations=6, execution={"save_every": 1, "keep": 3}), tar, tmp_path).run()
    names = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert names == [
        f"{s:06d}.{end}" for s in (4, 5, 6) for end in ("json", "model.safetensors", "optimizer.safetensors")
    ]


def scripted(loop: SmallLoop, values: list[float]) -> None:
    """Let the validations of a loop give these scores, one after the other."""
    scores = iter(values)

    def validate(network: torch.nn.Module, workers: Workers) -> Scores:
        value = next(scores)
        return Scores(value, 0.5, {"iou_fg": value})

    loop.task.validate = validate  # type: ignore[method-assign]


def test_the_best_checkpoint_stays(net: Path, tar: Path, tmp_path: Path) -> None:
    recipe = recipe_of(
        net, iterations=7, validation={"url": "x", "every": 2}, execution={"save_every": 1, "keep": 1}
    )
    loop = loop_of(recipe, tar, tmp_path, validation=tar)
    scripted(loop, [0.2, 0.4, 0.4, 0.3])
    state = loop.run()
    assert checkpoint.steps_of(Storage(str(tmp_path))) == [4, 7]
    assert state.best is not None and (state.best.step, state.best.value, state.since_best) == (4, 0.4, 2)
    found = {
        line["step"]: line["validation"]["iou_fg"] for line in lines_of(tmp_path) if "validation" in line
    }
    assert found == {2: 0.2, 4: 0.4, 6: 0.4, 7: 0.3}


def test_early_stopping_and_that_a_rerun_trains_no_further(net: Path, tar: Path, tmp_path: Path) -> None:
    recipe = recipe_of(net, validation={"url": "x", "every": 2, "patience": 2})
    loop = loop_of(recipe, tar, tmp_path, validation=tar)
    scripted(loop, [0.2, 0.4, 0.3, 0.4])
    state = loop.run()
    assert (state.step, state.since_best) == (8, 2)
    reports: list[Report] = []
    again = loop_of(recipe, tar, tmp_path, validation=tar, hooks=Hooks(report=reports.append))
    scripted(again, [])
    assert again.run() == state and not reports


def test_a_real_validation_scores_the_weights(net: Path, tar: Path, tmp_path: Path) -> None:
    recipe = recipe_of(net, iterations=2, validation={"url": "x"})
    state = loop_of(recipe, tar, tmp_path, validation=tar).run()
    assert state.best is not None and state.best.step == 2
    assert state.best.figures["iou_fg"] == state.best.value and 0 < state.best.value < 1


def test_preemption_saves_at_once(
    net: Path, tar: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("train.loop._PREEMPTION_CHECK", -1.0)
    reports: list[Report] = []
    hooks = Hooks(report=reports.append, preempted=lambda: reports[-1].step == 2 if reports else False)
    loop = loop_of(recipe_of(net, iterations=5, execution={"keep": 9}), tar, tmp_path, hooks=hooks)
    loop.run()
    assert checkpoint.steps_of(Storage(str(tmp_path))) == [3, 5]


def test_averaged_weights(net: Path, tar: Path, tmp_path: Path) -> None:
    """The average begins with the weights after the first step; 0.75 of it and 0.25 of the new ones from then on."""
    recipe = recipe_of(net, iterations=4, ema=0.75, execution={"save_every": 1, "keep": 4})
    loop_of(recipe, tar, tmp_path).run()
    weights = [weights_of(tmp_path, step) for step in (1, 2, 3, 4)]
    expected = weights[0]
    for later in weights[1:]:
        expected = {name: 0.75 * expected[name].double() + 0.25 * later[name].double() for name in expected}
    averaged = weights_of(tmp_path, 4, "ema")
    assert int(averaged.pop("n_averaged")) == 4
    floats = {
        name.removeprefix("module."): value for name, value in averaged.items() if value.is_floating_point()
    }
    assert len(floats) > 50
    for name, value in floats.items():
        assert torch.allclose(value.double(), expected[name], rtol=0, atol=1e-8), name
    # Resumed averages go on as undisturbed ones.
    for path in (tmp_path / "checkpoints").glob("000004.*"):
        path.unlink()
    loop_of(recipe, tar, tmp_path).run()
    again = weights_of(tmp_path, 4, "ema")
    assert all(
        torch.allclose(again[f"module.{name}"], value, rtol=0, atol=1e-8) for name, value in floats.items()
    )


def test_clipping(net: Path, tar: Path, tmp_path: Path) -> None:
    """The first moment after one step is a tenth of the gradient, whose norm is the limit."""

    def norm(out: Path, clip: float | None) -> float:
        loop_of(recipe_of(net, iterations=1, optimizer={"clip": clip, "warm_up": 0}), tar, out).run()
        moments = weights_of(out, 1, "optimizer")
        first = [value.flatten() for name, value in moments.items() if name.endswith(".exp_avg")]
        return 10 * float(torch.cat(first).norm())

    free = norm(tmp_path / "free", None)
    assert free > 0.02
    assert norm(tmp_path / "clipped", 0.01) == pytest.approx(0.01, rel=1e-3)
    assert norm(tmp_path / "wide", 10 * free) == pytest.approx(free, rel=1e-6)


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


def test_checkpoints_that_do_not_fit(net: Path, tar: Path, undisturbed: Path, tmp_path: Path) -> None:
    shutil.copytree(undisturbed / "checkpoints", tmp_path / "checkpoints")
    recipe = recipe_of(net)
    with pytest.raises(TrainingError, match=f"{tmp_path}: the checkpoint of step 20 is of another training"):
        loop_of(recipe, tar, tmp_path, digest="e" * 64).run()
    storage = Storage(str(tmp_path))
    state = checkpoint.read_state(storage, 20)
    for name, change in (
        ("model", {"net.decode_head.classifier.bias": torch.zeros(3)}),
        ("model", {"more": torch.zeros(3)}),
        ("optimizer", {"0.exp_avg": torch.zeros(1)}),
        ("optimizer", {"exp_avg": torch.zeros(1)}),
        ("optimizer", {"9999.exp_avg": torch.zeros(1)}),
    ):
        tensors = {**weights_of(undisturbed, 20, name), **change}
        files = {**state.files, name: checkpoint.write_tensors(storage, 20, name, tensors)}
        checkpoint.commit(storage, state.model_copy(update={"files": files}))
        with pytest.raises(
            OutputError, match=f"the {name} of the checkpoint of step 20 does not fit this training: "
        ):
            loop_of(recipe, tar, tmp_path).run()
        shutil.copytree(undisturbed / "checkpoints", tmp_path / "checkpoints", dirs_exist_ok=True)


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


def test_reports(net: Path, tar: Path, tmp_path: Path) -> None:
    reports: list[Report] = []
    saved: list[dict[str, object]] = []
    recipe = recipe_of(net, iterations=3, validation={"url": "x", "every": 2}, execution={"save_every": 9})
    loop = loop_of(
        recipe, tar, tmp_path, validation=tar, hooks=Hooks(report=reports.append, saved=saved.append)
    )
    scripted(loop, [0.25, 0.125])
    loop.run()
    assert [(one.step, one.checkpoint, one.best and one.best.value) for one in reports] == [
        (1, 0, None),
        (2, 0, None),
        (2, 2, 0.25),
        (3, 2, 0.25),
        (3, 3, 0.25),
    ]
    assert saved == [{"step": 2, "iou_fg": 0.25}, {"step": 3, "iou_fg": 0.25}]
    assert [one.loss for one in reports[:2]] == losses_of(tmp_path)[:2]
