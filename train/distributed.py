"""The workers of a training: which one this is, and sums over all of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor


@dataclass(frozen=True)
class Workers:
    """This worker and the others.

    Attributes:
        rank: 0 to world - 1.
        world: number of workers.
        device: of this worker.
    """

    rank: int = 0
    world: int = 1
    device: torch.device = torch.device("cpu")  # noqa: RUF009

    @classmethod
    def of_process(cls, device: torch.device) -> Workers:
        """Those of the process group, which Ray Train sets up; one alone without a group."""
        if not dist.is_initialized():
            return cls(device=device)
        return cls(dist.get_rank(), dist.get_world_size(), device)

    def slots(self, batch: int) -> range:
        """This worker's part of the slots of a step: consecutive, the sizes of two workers differ by at most one."""
        return range(self.rank * batch // self.world, (self.rank + 1) * batch // self.world)

    def fewest_slots(self, batch: int) -> int:
        """Size of the smallest part that a worker has."""
        return batch // self.world

    def most_slots(self, batch: int) -> int:
        """Size of the largest part that a worker has."""
        return -(-batch // self.world)

    def total(self, values: Sequence[float] | Tensor) -> Tensor:
        """Sums over all workers, float64 on the device."""
        summed = torch.as_tensor(values, dtype=torch.float64, device=self.device).clone()
        if self.world > 1:
            dist.all_reduce(summed)
        return summed

    def share(self, tensors: Iterable[Tensor]) -> None:
        """Replace tensors in place by those of worker 0."""
        if self.world > 1:
            for tensor in tensors:
                dist.broadcast(tensor, 0)

    def agreed(self, value: int) -> int:
        """The value of worker 0, on all of them."""
        if self.world == 1:
            return value
        shared = torch.tensor([value], dtype=torch.int64, device=self.device)
        dist.broadcast(shared, 0)
        return int(shared.item())
