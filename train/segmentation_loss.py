"""The loss of a segmenter, as a sum over units, so that sums over micro-batches and workers have one meaning.

The mean over a step is the sum of all workers' losses by the sum of their units. It does not depend on how the images
are dealt to micro-batches and workers.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import UperNetForSemanticSegmentation
from transformers.loss.loss_for_object_detection import dice_loss

from train.data.samples import IGNORED
from train.recipe import Loss


@dataclass(frozen=True)
class SegmentationBatch:
    """Images with their labels.

    Attributes:
        pixels: float [B, 3, H, W], normalised for the network.
        labels: int64 [B, H, W], class numbers and `IGNORED`.
    """

    pixels: Tensor
    labels: Tensor


class SegmentationLoss(nn.Module):
    """A UperNet with its loss: the forward pass gives the loss of a batch, summed over its units.

    The units of the cross-entropy are pixels that are not ignored, each counted by the weight of its class; those of
    the Dice loss are images that have such pixels. The auxiliary head, where there is one, adds its loss times the
    configuration's `auxiliary_loss_weight`.
    """

    def __init__(self, net: UperNetForSemanticSegmentation, settings: Loss) -> None:
        super().__init__()
        self.net = net
        self.kind = settings.kind
        self.class_weights = settings.class_weights or (1.0, 1.0)

    def forward(self, batch: SegmentationBatch) -> Tensor:
        features = self.net.backbone.forward_with_filtered_kwargs(batch.pixels).feature_maps
        loss = self._loss(self.net.decode_head(features), batch.labels)
        if self.net.auxiliary_head is not None:
            auxiliary = self._loss(self.net.auxiliary_head(features), batch.labels)
            loss = loss + self.net.config.auxiliary_loss_weight * auxiliary
        return loss

    def units(self, labels: Tensor) -> float:
        """Number of units of a batch; see the class."""
        known = labels != IGNORED
        if self.kind == "dice":
            return float(known.flatten(1).any(1).sum())
        return sum(
            weight * float(torch.count_nonzero(labels == number))
            for number, weight in enumerate(self.class_weights)
        )

    def _loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        logits = F.interpolate(logits, size=labels.shape[1:], mode="bilinear", align_corners=False)
        if logits.dtype in (torch.float16, torch.bfloat16):
            logits = logits.float()
        if self.kind == "dice":
            return self._dice(logits, labels)
        weight = torch.tensor(self.class_weights, dtype=logits.dtype, device=logits.device)
        return F.cross_entropy(logits, labels, weight, ignore_index=IGNORED, reduction="sum")

    def _dice(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Soft Dice of the artifact class. A softmax of two logits is the sigmoid of their difference."""
        difference = logits[:, 1] - logits[:, 0]
        # Without this, a batch whose pixels are all ignored would have no gradient to wait for.
        total = 0.0 * difference.sum()
        for score, label in zip(difference, labels, strict=True):
            known = label != IGNORED
            if known.any():
                total = total + dice_loss(score[known][None], label[known][None].to(score.dtype), 1)
        return total
