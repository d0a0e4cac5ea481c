"""The loop on one worker: resuming, micro-batches, validation, averages and reports."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from factory.store.storage import Storage
from tests.train.small import (
    SmallLoop,
    Stop,
    edited,
    lines_of,
    loop_of,
    losses_of,
    recipe_of,
    stop_after,
    weights_of,
)
from train import checkpoint
from train.distributed import Workers
from train.hooks import Hooks, Report
from train.task import Scores


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor], tolerance: float = 1e-8) -> bool:
    assert one.keys() == other.keys()
    return all(torch.allclose(one[name], other[name], rtol=0, atol=tolerance) for name in one)


@pytest.fixture(scope="module")
def undisturbed(net: Path, tar: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("undisturbed")
    loop_of(recipe_of(net, execution={"log_samples": True}), tar, out).run()
    return out


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
