"""Shares of the workers; what needs several processes is in `test_several_workers.py`."""

from __future__ import annotations

from itertools import chain

import pytest
import torch

from train.distributed import Workers


@pytest.mark.parametrize("batch", [1, 2, 7, 8, 64])
@pytest.mark.parametrize("world", [1, 2, 3, 5, 8])
def test_slots_are_dealt_out(batch: int, world: int) -> None:
    workers = [Workers(rank, world) for rank in range(world)]
    parts = [list(one.slots(batch)) for one in workers]
    assert list(chain.from_iterable(parts)) == list(range(batch))
    sizes = [len(part) for part in parts]
    assert max(sizes) - min(sizes) <= 1
    assert {one.fewest_slots(batch) for one in workers} == {min(sizes)}
    assert {one.most_slots(batch) for one in workers} == {max(sizes)}


def test_one_alone() -> None:
    alone = Workers.of_process(torch.device("cpu"))
    assert (alone.rank, alone.world) == (0, 1)
    values = torch.tensor([1.5, 2.5], dtype=torch.float32)
    total = alone.total(values)
    assert total.tolist() == [1.5, 2.5] and total.dtype == torch.float64
    assert alone.agreed(7) == 7
    alone.share([values])
    # A sum is another tensor than what was summed.
    same = torch.tensor([1.0], dtype=torch.float64)
    alone.total(same).add_(1)
    assert same.tolist() == [1.0]
