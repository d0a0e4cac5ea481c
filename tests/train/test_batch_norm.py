"""Policies of batch norms, and when they cannot work."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from actors.errors import TrainingError
from train.batch_norm import check_images, check_passes, prepare, training_mode


def net() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Sequential(nn.BatchNorm2d(4), nn.Dropout())
    )


def test_frozen_ones_keep_their_statistics_and_learn_scale_and_offset() -> None:
    module = net()
    training_mode(module, "frozen")
    assert [part.training for part in module.modules()] == [True, True, False, True, False, True]
    before = {name: value.clone() for name, value in module.named_buffers()}
    module(torch.randn(2, 3, 4, 4)).sum().backward()
    assert all(torch.equal(value, before[name]) for name, value in module.named_buffers())
    assert module[1].weight.grad is not None and module[1].bias.grad is not None


@pytest.mark.parametrize("policy", ["synchronised", "per_worker"])
def test_others_follow_the_images(policy: str) -> None:
    module = net().eval()
    training_mode(module, policy)
    assert all(part.training for part in module.modules())
    module(torch.randn(2, 3, 4, 4) + 5)
    assert module[1].running_mean.abs().max() > 0.01


def test_prepare_keeps_weights_and_names() -> None:
    module = net()
    module[1].running_mean.fill_(3)
    state = {name: value.clone() for name, value in module.state_dict().items()}
    for policy in ("frozen", "per_worker"):
        assert prepare(module, policy) is module
        assert type(module[1]) is nn.BatchNorm2d
    converted = prepare(module, "synchronised")
    norms = [part for part in converted.modules() if isinstance(part, nn.SyncBatchNorm)]
    assert len(norms) == 2
    assert converted.state_dict().keys() == state.keys()
    assert all(torch.equal(value, state[name]) for name, value in converted.state_dict().items())
    training_mode(converted, "frozen")
    assert not any(norm.training for norm in norms)


def test_one_image_has_no_statistics() -> None:
    for policy in ("synchronised", "per_worker"):
        with pytest.raises(
            TrainingError, match=f"model.batch_norm is {policy}, and a forward pass has one image"
        ):
            check_images(net(), policy, 1)
        check_images(net(), policy, 2)
        check_images(nn.Conv2d(3, 4, 1), policy, 1)
    check_images(net(), "frozen", 1)


def test_synchronised_ones_need_equal_numbers_of_passes() -> None:
    check_passes({2})
    with pytest.raises(
        TrainingError, match="some workers have 1 micro-batches in a step, others 2: make batch"
    ):
        check_passes({1, 2})
