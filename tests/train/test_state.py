"""The tensors of a training state by name, and back."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from train.state import module_tensors, optimizer_tensors, restore_optimizer


def net_and_optimizer() -> tuple[nn.Module, torch.optim.AdamW]:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 2), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(36, 1))
    net.to(memory_format=torch.channels_last)
    return net, torch.optim.AdamW(
        [{"params": [net[0].weight]}, {"params": list(net[1:].parameters())}], lr=0.1
    )


def step(net: nn.Module, optimizer: torch.optim.AdamW, seed: int) -> None:
    optimizer.zero_grad()
    net(torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(seed))).sum().backward()
    optimizer.step()


def test_an_optimizer_goes_on_where_it_was() -> None:
    net, optimizer = net_and_optimizer()
    step(net, optimizer, 0)
    tensors = {name: value.clone() for name, value in optimizer_tensors(optimizer).items()}
    assert len(tensors) == 5 * 3 and tensors["0.exp_avg"].shape == (4, 3, 2, 2)
    weights = {name: value.clone() for name, value in module_tensors(net).items()}
    assert all(value.is_contiguous() for value in {**tensors, **weights}.values())
    step(net, optimizer, 1)

    other, restored = net_and_optimizer()
    other.load_state_dict(weights)
    restore_optimizer(restored, tensors)
    first = restored.state[restored.param_groups[0]["params"][0]]["exp_avg"]
    assert first.is_contiguous(memory_format=torch.channels_last)
    step(other, restored, 1)
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in net.state_dict().items())


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("0.exp_avg", torch.zeros(1), r"0.exp_avg has the shape \[1\], its parameter \[4, 3, 2, 2\]"),
        ("exp_avg", torch.zeros(1), "not enough values"),
        ("x.exp_avg", torch.zeros(1), "invalid literal"),
        ("5.exp_avg", torch.zeros(1), "out of range"),
    ],
)
def test_tensors_of_another_network(name: str, value: torch.Tensor, error: str) -> None:
    net, optimizer = net_and_optimizer()
    step(net, optimizer, 0)
    with pytest.raises((ValueError, LookupError), match=error):
        restore_optimizer(optimizer, {**optimizer_tensors(optimizer), name: value})


def test_a_checkpoint_without_a_slot() -> None:
    net, optimizer = net_and_optimizer()
    step(net, optimizer, 0)
    tensors = optimizer_tensors(optimizer)
    del tensors["2.exp_avg_sq"]
    with pytest.raises(
        ValueError, match="parameter 2 has exp_avg, step instead of exp_avg, exp_avg_sq, step"
    ):
        restore_optimizer(optimizer, tensors)
