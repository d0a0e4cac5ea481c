"""The tensors of a training state by name, and back: weights, their averages, and the optimizer's moments."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

Tensors = dict[str, Tensor]


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> Tensors:
    """The optimizer's state as `NUMBER.SLOT`, numbered as its parameters are."""
    return {
        f"{number}.{slot}": torch.as_tensor(value).contiguous()
        for number, slots in optimizer.state_dict()["state"].items()
        for slot, value in slots.items()
    }


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Restore what `optimizer_tensors` gave, for an optimizer over the same parameters."""
    slots: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        number, slot = name.split(".", 1)
        slots.setdefault(int(number), {})[slot] = value
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": slots, "param_groups": groups})


def module_tensors(module: nn.Module) -> Tensors:
    """Weights and buffers by name, without the prefixes of wrappers."""
    return {name: value.detach().contiguous() for name, value in module.state_dict().items()}
