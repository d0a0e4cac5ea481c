"""An order of a batch's rows that follows from what they hold, not from how they came."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


class RowOrder:
    """Matrix products treat the rows at a batch's end otherwise than the first ones, in the last bit (measured in
    float64, where the batch is no multiple of 4). Sorted rows stand where they stand, whatever order they came in.

    Args:
        contents: [B, ...] each, all that a row's result may depend on.
        seeds: one per row, where rows of equal content may differ in theirs.

    Attributes:
        rows: int64 [B], the row that comes first, second, ...
    """

    def __init__(self, *contents: Tensor, seeds: Sequence[int] | None = None) -> None:
        keys = [_fingerprint(rows) for rows in contents]
        device = contents[0].device
        if seeds is not None:
            keys.append(torch.tensor(seeds, dtype=torch.int64, device=device))
        self.rows = torch.arange(len(contents[0]), device=device)
        for key in keys:
            self.rows = self.rows[key[self.rows].argsort(stable=True)]
        self._back = self.rows.argsort()

    def sorted(self, values: Tensor) -> Tensor:
        """[B, ...] in this order."""
        return values[self.rows]

    def restored(self, values: Tensor) -> Tensor:
        """Sorted [B, ...] in the order in which the rows came."""
        return values[self._back]

    def restored_list(self, values: Sequence[T]) -> list[T]:
        """The same for a list."""
        return [values[place] for place in self._back.tolist()]


def _fingerprint(rows: Tensor) -> Tensor:
    """One float64 per row: its product with fixed numbers, added up row by row."""
    flat = rows.reshape(len(rows), -1).double()
    weights = torch.arange(1, flat.shape[1] + 1, device=rows.device, dtype=torch.float64).sin()
    return (flat * weights).sum(1)
