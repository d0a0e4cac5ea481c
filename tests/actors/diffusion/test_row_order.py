"""The order in which a batch is computed."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.diffusion.row_order import RowOrder


def order_of(*latents: float, prompts: list[float] | None = None, seeds: list[int] | None = None) -> RowOrder:
    """Of single numbers; prompts are all the same unless given."""
    prompts = [0.0] * len(latents) if prompts is None else prompts
    return RowOrder(
        torch.tensor(latents).view(-1, 1, 1, 1), torch.tensor(prompts).view(-1, 1, 1), seeds=seeds
    )


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10**6), st.integers(1, 17), st.sampled_from([torch.float32, torch.float64]))
def test_shuffled_rows_are_sorted_alike(seed, rows, dtype):
    generator = torch.Generator().manual_seed(seed)
    latents = torch.randn(rows, 4, 3, 5, generator=generator, dtype=dtype)
    prompts = torch.randn(rows, 2, 6, generator=generator, dtype=dtype)
    seeds = torch.randint(0, 2**40, (rows,), generator=generator).tolist()
    shuffle = torch.randperm(rows, generator=generator)
    straight = RowOrder(latents, prompts, seeds=seeds)
    moved = RowOrder(latents[shuffle], prompts[shuffle], seeds=[seeds[row] for row in shuffle])
    assert torch.equal(straight.sorted(latents), moved.sorted(latents[shuffle]))
    assert torch.equal(straight.sorted(prompts), moved.sorted(prompts[shuffle]))
    assert [seeds[row] for row in straight.rows] == [seeds[row] for row in shuffle[moved.rows]]


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(-3, 3), min_size=1, max_size=9))
def test_what_was_sorted_is_restored(numbers):
    order = order_of(*map(float, numbers))
    values = torch.arange(len(numbers))
    assert sorted(order.rows.tolist()) == list(range(len(numbers)))
    assert torch.equal(order.restored(order.sorted(values)), values)
    assert order.restored_list([int(row) for row in order.rows]) == values.tolist()


def test_equal_latents_are_ordered_by_their_prompts():
    one = order_of(1.0, 1.0, 1.0, prompts=[3.0, 1.0, 2.0])
    other = order_of(1.0, 1.0, 1.0, prompts=[1.0, 2.0, 3.0])
    prompts = torch.tensor([3.0, 1.0, 2.0])
    assert torch.equal(one.sorted(prompts), other.sorted(prompts.sort().values))


def test_equal_rows_are_ordered_by_their_seeds():
    seeds = [9, 2**62 + 1, 2**62, 0]
    one, other = (order_of(1.0, 1.0, 1.0, 1.0, seeds=these) for these in (seeds, seeds[::-1]))
    assert [seeds[row] for row in one.rows] == [seeds[::-1][row] for row in other.rows]


def test_equal_rows_keep_their_order():
    assert order_of(2.0, 2.0, 2.0).rows.tolist() == [0, 1, 2]


def test_cells_count_by_their_place():
    """The same latent pixels in another arrangement are other latents."""
    one = torch.tensor([[[[1.0, 0.0]]], [[[0.0, 1.0]]]])
    first = RowOrder(one, torch.zeros(2, 1, 1))
    second = RowOrder(one.flip(0), torch.zeros(2, 1, 1))
    assert torch.equal(first.sorted(one), second.sorted(one.flip(0)))


def test_a_list_of_another_length_is_refused():
    with pytest.raises(IndexError):
        order_of(5.0, -5.0).restored_list([])
