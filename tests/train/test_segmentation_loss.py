"""The loss: by hand, against torch and transformers, and that sums over parts are the sum over the whole."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from transformers import ConvNextConfig, UperNetConfig, UperNetForSemanticSegmentation

from train.recipe import Loss
from train.segmentation_loss import SegmentationBatch, SegmentationLoss


def net_of(*, auxiliary: bool = False) -> UperNetForSemanticSegmentation:
    torch.manual_seed(0)
    backbone = ConvNextConfig(
        hidden_sizes=[8, 8, 16, 16],
        depths=[1, 1, 1, 1],
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )
    config = UperNetConfig(
        backbone_config=backbone,
        hidden_size=8,
        num_labels=2,
        use_auxiliary_head=auxiliary,
        auxiliary_in_channels=16,
        auxiliary_channels=8,
        auxiliary_loss_weight=0.25,
        pool_scales=[1, 2],
    )
    return UperNetForSemanticSegmentation(config).double().eval()


def batch_of(count: int = 3, side: int = 32, *, ignored: float = 0.2) -> SegmentationBatch:
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randn(count, 3, side, side, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, 2, (count, side, side), generator=generator)
    labels[torch.rand(labels.shape, generator=generator) < ignored] = 255
    return SegmentationBatch(pixels, labels)


class Given(torch.nn.Module):
    """A network whose logits are given."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = torch.nn.Parameter(logits)
        self.backbone = self
        self.auxiliary_head = None

    def forward_with_filtered_kwargs(self, pixels: Tensor) -> Given:
        self.feature_maps = self.logits
        return self

    def decode_head(self, features: Tensor) -> Tensor:
        return features


def given_loss(logits: Tensor, labels: Tensor, **settings: object) -> tuple[float, float]:
    module = SegmentationLoss(Given(logits), Loss.model_validate(settings))  # type: ignore[arg-type]
    batch = SegmentationBatch(torch.zeros(len(labels), 3, 1, 1), labels)
    return module(batch).item(), module.units(labels)


def test_cross_entropy_by_hand() -> None:
    """Four pixels of probability 1/2, 3/4 and 1/4 of the artifact, and an ignored one."""
    logits = torch.tensor([[[0.0, 0.0], [0.0, 0.0]], [[0.0, math.log(3)], [-math.log(3), 7.0]]])[
        None
    ].double()
    labels = torch.tensor([[[1, 1], [0, 255]]])
    loss, units = given_loss(logits, labels)
    assert units == 3
    assert loss == pytest.approx(-math.log(0.5) - math.log(0.75) - math.log(0.75))
    loss, units = given_loss(logits, labels, class_weights=(1.0, 4.0))
    assert units == 9
    assert loss == pytest.approx(-4 * math.log(0.5) - 4 * math.log(0.75) - math.log(0.75))


def test_logits_are_enlarged_to_the_labels() -> None:
    """A row of logits 0 and 4 becomes 0, 1, 3, 4 (pixel centres at 1/4 and 3/4 of a cell, edges clamped)."""
    logits = torch.tensor([[0.0, 0.0], [0.0, 4.0]]).double().view(1, 2, 1, 2)
    loss, _ = given_loss(logits, torch.ones(1, 1, 4, dtype=torch.long))
    assert loss == pytest.approx(sum(math.log(1 + math.exp(-value)) for value in (0, 1, 3, 4)))


def test_dice_by_hand() -> None:
    """1 - (2 * sum of p t + 1) / (sum of p + sum of t + 1) for each image with known pixels."""
    half, three = 0.0, math.log(3)
    logits = torch.zeros(3, 2, 1, 3).double()
    logits[0, 1, 0] = torch.tensor([half, three, 50.0])
    logits[1, 0, 0] = torch.tensor([half, half, three])  # the other class: 1/4
    labels = torch.tensor([[[1, 0, 255]], [[0, 0, 1]], [[255, 255, 255]]])
    loss, units = given_loss(logits, labels, kind="dice")
    assert units == 2
    first = 1 - (2 * 0.5 + 1) / (1.25 + 1 + 1)
    second = 1 - (2 * 0.25 + 1) / (1.25 + 1 + 1)
    assert loss == pytest.approx(first + second)


@pytest.mark.parametrize("auxiliary", [False, True])
def test_it_is_the_loss_of_transformers(auxiliary: bool) -> None:
    net, batch = net_of(auxiliary=auxiliary), batch_of()
    module = SegmentationLoss(net, Loss())
    ours = module(batch) / module.units(batch.labels)
    theirs = net(batch.pixels, labels=batch.labels).loss
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-12)
    assert module.units(batch.labels) == int((batch.labels != 255).sum())
    mine, others = (torch.autograd.grad(loss, list(net.parameters())) for loss in (ours, theirs))
    assert all(torch.allclose(a, b, atol=1e-12) for a, b in zip(mine, others, strict=True))
    if auxiliary:
        assert float(mine[-1].abs().max()) > 0


@pytest.mark.parametrize(
    "settings", [Loss(), Loss(class_weights=(1.0, 5.0)), Loss(kind="dice")], ids=["plain", "weighted", "dice"]
)
def test_sums_over_parts_are_the_sum_over_the_whole(settings: Loss) -> None:
    batch = batch_of(4)
    batch.labels[2] = 255
    module = SegmentationLoss(net_of(), settings)
    parts = [SegmentationBatch(batch.pixels[s : s + 2], batch.labels[s : s + 2]) for s in (0, 2)]
    assert module(batch).item() == pytest.approx(sum(module(part).item() for part in parts), rel=1e-12)
    assert module.units(batch.labels) == pytest.approx(sum(module.units(part.labels) for part in parts))


@pytest.mark.parametrize("kind", ["cross_entropy", "dice"])
def test_a_batch_without_known_pixels_has_no_loss_and_gradients_of_zero(kind: str) -> None:
    net = net_of(auxiliary=True)
    module = SegmentationLoss(net, Loss.model_validate({"kind": kind}))
    batch = batch_of(2, ignored=1.1)
    loss = module(batch)
    loss.backward()
    assert loss.item() == 0 and module.units(batch.labels) == 0
    assert all(one.grad is not None and not one.grad.any() for one in net.parameters())


def test_weighted_cross_entropy_is_that_of_torch() -> None:
    batch = batch_of()
    net = net_of()
    module = SegmentationLoss(net, Loss(class_weights=(0.5, 3.0)))
    logits = net(batch.pixels).logits
    theirs = torch.nn.CrossEntropyLoss(torch.tensor([0.5, 3.0]).double(), ignore_index=255)(
        logits, batch.labels
    )
    assert module(batch).item() / module.units(batch.labels) == pytest.approx(theirs.item(), rel=1e-12)
