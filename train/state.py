"""The tensors of a training state by name, and back: weights, their averages, and the optimizer's moments."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

Tensors = dict[str, Tensor]

_SLOTS = {"step", "exp_avg", "exp_avg_sq"}
"""What AdamW keeps of every parameter that has had a gradient."""


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> Tensors:
    """The optimizer's state as `NUMBER.SLOT`, numbered as its parameters are."""
    return {
        f"{number}.{slot}": torch.as_tensor(value).contiguous()
        for number, slots in optimizer.state_dict()["state"].items()
        for slot, value in slots.items()
    }


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Restore what `optimizer_tensors` gave, for an optimizer over the same parameters.

    Raises:
        ValueError, RuntimeError or LookupError: the tensors are not those of these parameters.
    """
    parameters = [one for group in optimizer.param_groups for one in group["params"]]
    slots: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        number, slot = name.split(".", 1)
        if value.ndim:
            parameter = parameters[int(number)]
            if value.shape != parameter.shape:
                raise ValueError(
                    f"{name} has the shape {list(value.shape)}, its parameter {list(parameter.shape)}"
                )
            # As the optimizer made it: other strides than the parameter's would be slow.
            value = torch.empty_like(parameter).copy_(value)
        slots.setdefault(int(number), {})[slot] = value
    for place, found in slots.items():
        if found.keys() != _SLOTS:
            raise ValueError(
                f"parameter {place} has {', '.join(sorted(found))} instead of {', '.join(sorted(_SLOTS))}"
            )
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": slots, "param_groups": groups})


def module_tensors(module: nn.Module) -> Tensors:
    """Weights and buffers by name, without the prefixes of wrappers."""
    return {name: value.detach().contiguous() for name, value in module.state_dict().items()}
