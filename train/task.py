"""What a training needs of its task: examples, a loss, and a validation. The loop knows nothing else of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from torch import Tensor, nn

from train.distributed import Workers

Example = TypeVar("Example")
Batch = TypeVar("Batch")


@dataclass(frozen=True)
class Scores:
    """The result of a validation, the same on all workers.

    Attributes:
        value: the larger the better; it chooses the best checkpoint.
        threshold: score from which a pixel is predicted, chosen there; None for tasks without one.
        figures: more of them, for the log.
    """

    value: float
    threshold: float | None
    figures: dict[str, float]


@dataclass(frozen=True)
class Read(Generic[Example]):
    """A slot of a step.

    Attributes:
        data_set: name of the data set that the slot belongs to.
        key: of the sample; empty where it could not be found out.
        example: None for a bad sample that is skipped.
        problem: why it was skipped, or empty.
    """

    data_set: str
    key: str
    example: Example | None
    problem: str = ""


class Task(Protocol[Example, Batch]):
    """A kind of training.

    Attributes:
        module: its forward pass takes a batch and gives the loss summed over the batch's units.
    """

    module: nn.Module

    def read(self, step: int, slot: int) -> Read[Example]:
        """The example of a slot. It depends on nothing but the arguments, and is called from several threads."""
        ...

    def collate(self, examples: Sequence[Example]) -> Batch:
        """Examples as one batch on the CPU. Without examples, a batch of any size that has no units."""
        ...

    def units(self, batch: Batch) -> float:
        """Over how many units (pixels that are not ignored, tokens) the loss of the batch is a sum."""
        ...

    def to_device(self, batch: Batch, workers: Workers) -> Batch:
        """The batch on the worker's device."""
        ...

    def training_mode(self) -> None:
        """Set the module to training."""
        ...

    def validate(self, network: nn.Module, workers: Workers) -> Scores:
        """Score a network with the module's parts on the validation data; every worker takes a share of it."""
        ...

    def network(self, module: nn.Module) -> nn.Module:
        """The part of the module whose weights are the result."""
        ...


LossSum = Tensor
"""A scalar: the loss summed over the units of a batch."""
