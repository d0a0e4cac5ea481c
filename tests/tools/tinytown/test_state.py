"""A training state without pickle: a restored run goes on as the unbroken one would have."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tools.tinytown.state import load_state, save_state


def net() -> tuple[torch.nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(1)
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1))
    return model, torch.optim.AdamW(model.parameters(), lr=0.1)


def step(model: torch.nn.Module, optimizer: torch.optim.Optimizer, number: int) -> None:
    rows = torch.randn(5, 3, generator=torch.Generator().manual_seed(number))
    optimizer.zero_grad()
    model(rows).square().mean().backward()
    optimizer.step()


def test_a_restored_run_equals_an_unbroken_one(tmp_path: Path):
    whole, optimizer = net()
    for number in range(6):
        step(whole, optimizer, number)

    model, optimizer = net()
    assert load_state(tmp_path, model, optimizer) == 0
    for number in range(3):
        step(model, optimizer, number)
    save_state(tmp_path, model, optimizer)
    model, optimizer = net()
    assert load_state(tmp_path, model, optimizer) == 3
    for number in range(3, 6):
        step(model, optimizer, number)
    for one, other in zip(whole.parameters(), model.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_state_of_another_model_is_refused(tmp_path: Path):
    model, optimizer = net()
    step(model, optimizer, 0)
    save_state(tmp_path, model, optimizer)
    other = torch.nn.Linear(3, 3)
    with pytest.raises(RuntimeError, match="loading state_dict"):
        load_state(tmp_path, other, torch.optim.AdamW(other.parameters()))


def test_nothing_but_safetensors_is_written(tmp_path: Path):
    model, optimizer = net()
    step(model, optimizer, 0)
    save_state(tmp_path, model, optimizer)
    assert [path.name for path in tmp_path.iterdir()] == ["state.safetensors"]
