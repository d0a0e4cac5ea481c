"""The optimizer of a training and its learning rate, both as functions of the recipe and the step."""

from __future__ import annotations

from collections.abc import Callable

import torch
from transformers import get_polynomial_decay_schedule_with_warmup

from train.recipe import Optimizer


def optimizer_for(module: torch.nn.Module, settings: Optimizer) -> torch.optim.AdamW:
    """AdamW over all trainable parameters of a module."""
    return torch.optim.AdamW(
        parameter_groups(module, settings.weight_decay), lr=settings.learning_rate, betas=settings.betas
    )


def parameter_groups(module: torch.nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Two groups for AdamW: matrices and kernels decay; norms, biases, scales and position tables do not."""
    decayed: list[torch.nn.Parameter] = []
    free: list[torch.nn.Parameter] = []
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            (free if parameter.ndim <= 1 or "position" in name else decayed).append(parameter)
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": free, "weight_decay": 0.0}]


def rate_of(settings: Optimizer, iterations: int) -> Callable[[int], float]:
    """The learning rate of each step, counted from 0: a linear warm-up, then a polynomial decay to 0.

    The schedule is that of transformers; it is asked for one step at a time, so that there is no state to save.
    """
    stand_in = torch.optim.SGD([torch.nn.Parameter(torch.zeros(()))], lr=settings.learning_rate)
    schedule = get_polynomial_decay_schedule_with_warmup(
        stand_in, settings.warm_up, iterations, lr_end=0.0, power=settings.power
    )
    factor = schedule.lr_lambdas[0]
    # The first step of a warm-up would have a rate of 0.
    shift = 1 if settings.warm_up else 0
    return lambda step: (
        settings.learning_rate * float(factor(step + shift if step < settings.warm_up else step))
    )
