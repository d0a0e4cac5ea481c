"""Learning rates by hand, and which weights decay."""

from __future__ import annotations

import pytest
import torch

from tools.tinytown.segmenter import KINDS, build
from train.optimisation import optimizer_for, parameter_groups, rate_of
from train.recipe import Optimizer


@pytest.mark.parametrize(
    ("settings", "iterations", "expected"),
    [
        ({"warm_up": 4}, 10, [1.5, 3, 4.5, 6, 6, 5, 4, 3, 2, 1]),
        ({}, 4, [6, 4.5, 3, 1.5]),
        ({"warm_up": 1}, 4, [6, 6, 4, 2]),
        ({"power": 2.0}, 4, [6, 6 * 9 / 16, 6 / 4, 6 / 16]),
        ({}, 1, [6]),
    ],
)
def test_rates(settings: dict[str, float], iterations: int, expected: list[float]) -> None:
    rate = rate_of(Optimizer.model_validate({"learning_rate": 0.006, **settings}), iterations)
    assert [1000 * rate(step) for step in range(iterations)] == pytest.approx(expected)
    # In any order: there is no state.
    assert 1000 * rate(0) == pytest.approx(expected[0])


@pytest.mark.parametrize("kind", KINDS)
def test_only_matrices_and_kernels_decay(kind: str) -> None:
    net = build(kind)
    decayed, free = parameter_groups(net, 0.01)
    assert (decayed["weight_decay"], free["weight_decay"]) == (0.01, 0.0)
    kernels = {
        id(module.weight) for module in net.modules() if isinstance(module, torch.nn.Linear | torch.nn.Conv2d)
    }
    found = [{id(parameter) for parameter in group["params"]} for group in (decayed, free)]  # type: ignore[attr-defined]
    everything = {id(parameter) for parameter in net.parameters()}
    assert found == [kernels, everything - kernels]


def test_frozen_weights_are_left_out() -> None:
    net = torch.nn.Linear(2, 2)
    net.bias.requires_grad_(False)
    assert [len(group["params"]) for group in parameter_groups(net, 0.1)] == [1, 0]  # type: ignore[arg-type]


def test_a_step_of_adamw_by_hand() -> None:
    """The first step moves every weight by the rate, against the sign of the gradient, after the decay."""
    net = torch.nn.Linear(1, 1).double()
    with torch.no_grad():
        net.weight.fill_(2.0)
        net.bias.fill_(3.0)
    optimizer = optimizer_for(net, Optimizer(learning_rate=0.1, weight_decay=0.5, betas=(0.8, 0.9)))
    (net.weight * 4 - net.bias * 4).sum().backward()
    optimizer.step()
    assert net.weight.item() == pytest.approx(2 * (1 - 0.1 * 0.5) - 0.1)
    assert net.bias.item() == pytest.approx(3 + 0.1)
    moments = optimizer.state[net.weight]
    assert moments["exp_avg"].item() == pytest.approx(0.8)
    assert moments["exp_avg_sq"].item() == pytest.approx(1.6)
