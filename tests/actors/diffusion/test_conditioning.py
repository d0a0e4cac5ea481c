"""Prompts and guidance as one value: its rows, their order, and what does not fit together."""

from __future__ import annotations

import pytest
import torch

from actors.diffusion.conditioning import Conditioning
from actors.diffusion.prompts import Prompts


def prompts(*values: float, added: bool = False) -> Prompts:
    column = torch.tensor(values).view(-1, 1, 1)
    return Prompts(column, {"time_ids": 10 * column[:, 0]} if added else None)


def numbers(found: Prompts) -> list[float]:
    return found.embeds.flatten().tolist()


def test_without_guidance_the_prompts_are_evaluated_alone():
    for scale in (1.0, 0.5, 0.0):
        conditioning = Conditioning(prompts(1, 2), prompts(-1, -2), scale)
        assert not conditioning.guided and numbers(conditioning.evaluated) == [1, 2]
        assert list(conditioning.rows) == ["prompts.embeds"]


def test_with_guidance_the_unconditional_rows_come_first():
    conditioning = Conditioning(prompts(1, 2, added=True), prompts(-1, -2, added=True), 3.0)
    assert conditioning.guided
    evaluated = conditioning.evaluated
    assert numbers(evaluated) == [-1, -2, 1, 2]
    assert evaluated.added is not None
    assert evaluated.added["time_ids"].flatten().tolist() == [-10, -20, 10, 20]
    assert list(conditioning.rows) == [
        "prompts.embeds",
        "prompts.added['time_ids']",
        "unconditional.embeds",
        "unconditional.added['time_ids']",
    ]


def test_rows_are_taken_from_everything():
    conditioning = Conditioning(prompts(1, 2, 3), prompts(-1, -2, -3), 3.0)[torch.tensor([2, 0])]
    assert numbers(conditioning.evaluated) == [-3, -1, 3, 1] and conditioning.guidance_scale == 3.0
    assert numbers(Conditioning(prompts(1, 2), prompts(-1))[[1]].evaluated) == [2]


def test_guidance_needs_unconditional_prompts():
    with pytest.raises(
        ValueError, match=r"^guidance_scale is 7.5: unconditional prompts are required with it$"
    ):
        Conditioning(prompts(1), guidance_scale=7.5)


def test_guidance_needs_the_same_conditions_in_both():
    message = (
        r"prompts.added has \['time_ids'\], unconditional.added has \[\]; guidance needs the same in both"
    )
    with pytest.raises(ValueError, match=message):
        Conditioning(prompts(1, added=True), prompts(-1), 2.0)


def test_every_tensor_has_one_row_for_each_latent():
    conditioning = Conditioning(prompts(1, 2), prompts(-1), 2.0)
    conditioning[[0]].check(1)
    with pytest.raises(ValueError, match=r"^1 rows of unconditional.embeds for 2 latents$"):
        conditioning.check(2)
