"""A detector as a reward: differentiable scores of images, for people who tune generators in their own code."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from actors.device import device_for
from actors.errors import ArgumentError
from actors.segmentation.segmenter import load_two_classes, smallest_side

_SLACK = 0.25
"""By which the first images may leave 0 to 1: decoders of generators overshoot. Images in -1 to 1 leave it by more."""

_REMEDY = 'or take device="cpu"'


class Reward(nn.Module):
    """The public function is `flawforge.load_reward`, which documents scores and arguments.

    It is always in evaluation mode, and none of its parameters takes a gradient.

    Args:
        checkpoint: a shipped name, a folder, or a hub id in the local cache; class 1 is the artifact.
        threshold: probability above which a pixel counts in the score.
        device: `cpu` or `cuda`.
        dtype: of the network; None takes float32.
        revision: of a hub id.

    Raises:
        ArgumentError: a threshold or dtype that is not allowed.
        ModelError: a checkpoint that cannot be loaded, or no GPU.
    """

    scale: Tensor
    mean: Tensor
    std: Tensor

    def __init__(
        self,
        checkpoint: str,
        *,
        threshold: float = 0.5,
        device: str = "cpu",
        dtype: torch.dtype | None = None,
        revision: str | None = None,
    ) -> None:
        super().__init__()
        dtype = torch.float32 if dtype is None else dtype
        if not 0 <= threshold < 1:
            raise ArgumentError("threshold", f"found {threshold}; allowed: 0 to below 1")
        if not dtype.is_floating_point:
            raise ArgumentError("dtype", f"found {dtype}; allowed: floating-point types of torch")
        where = device_for(device, remedy=_REMEDY)
        net, normalisation = load_two_classes(checkpoint, revision)
        self.threshold = threshold
        self.net = net
        self.smallest = smallest_side(net.config)
        # Buffers, so that they follow `.to()`. The scale is 1 for pixels that the network takes from 0 to 1.
        for name, values in (
            ("scale", (255 / normalisation.divisor,)),
            ("mean", normalisation.mean),
            ("std", normalisation.std),
        ):
            constant = torch.tensor(values, dtype=torch.float64).view(1, -1, 1, 1)
            self.register_buffer(name, constant, persistent=False)
        self.to(device=where, dtype=dtype)
        self.eval()
        self._range_checked = False

    def train(self, mode: bool = True) -> Reward:
        """Stays in evaluation mode: a trainer that holds the reward calls this on all its modules."""
        del mode
        super().train(False)
        return self

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Float images [B, 3, H, W] in 0 to 1 to scores [B] and probabilities [B, H, W] of an artifact.

        Both are float32, or float64 where the network is. Pixels are compared with the threshold strictly.

        Raises:
            ArgumentError: images of another shape, kind or device, or, in the first call, of another range.
        """
        self._check(images)
        height, width = images.shape[2:]
        pixels = (images.to(self.mean.dtype) * self.scale - self.mean) / self.std
        missing = (max(0, self.smallest - width), max(0, self.smallest - height))
        if any(missing):
            pixels = F.pad(pixels, (0, missing[0], 0, missing[1]), mode="replicate")
        logits = self.net(pixels).logits[:, :, :height, :width]
        precise = torch.promote_types(logits.dtype, torch.float32)
        probability = logits.softmax(1, dtype=precise)[:, 1]
        above = probability > self.threshold
        counted = above.sum((1, 2)).clamp(min=1)
        score = torch.where(above, probability, 0).sum((1, 2)) / counted
        return score, probability

    def _check(self, images: Tensor) -> None:
        if images.ndim != 4 or images.shape[1] != 3 or 0 in images.shape:
            raise ArgumentError(
                "images", f"shape {list(images.shape)}; allowed: [B, 3, H, W], nothing of it 0"
            )
        if not images.is_floating_point():
            raise ArgumentError("images", f"{images.dtype}; allowed: floating-point numbers from 0 to 1")
        if images.device != self.mean.device:
            raise ArgumentError(
                "images", f"on {images.device}, the reward on {self.mean.device}; move one to the other"
            )
        # Once: a GPU would be waited for in every call, and a compiled graph would break.
        if not self._range_checked and not torch.compiler.is_compiling():
            low, high = (float(value) for value in torch.aminmax(images.detach()))
            if not (low >= -_SLACK and high <= 1 + _SLACK):  # NaN is neither
                raise ArgumentError(
                    "images",
                    f"values from {low:g} to {high:g}; allowed: 0 to 1, such as images / 255 of bytes and "
                    "(images + 1) / 2 of a decoder's output",
                )
            self._range_checked = True
