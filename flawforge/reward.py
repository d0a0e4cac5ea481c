"""The detector as a reward, for those who tune generators in their own code."""

from __future__ import annotations

from os import PathLike
from typing import TYPE_CHECKING, Literal

from actors.errors import ArgumentError

if TYPE_CHECKING:
    import torch

    from actors.segmentation.reward import Reward


def load_reward(
    folder: str | PathLike[str],
    *,
    threshold: float = 0.5,
    device: Literal["cpu", "cuda"] = "cpu",
    dtype: torch.dtype | None = None,
) -> Reward:
    """Load a detector as a differentiable function from images to scores and artifact maps.

    It returns `score, probability = reward(images)` for float images [B, 3, H, W] in 0 to 1, RGB, of any size:

    - probability [B, H, W]: how likely each pixel is an artifact, 0 to 1.
    - score [B]: the mean probability of the pixels whose probability is above `threshold`; 0 where there is none.

    **Higher is worse.** `score.mean()` is a loss to minimise, and `-score` a reward to maximise. The gradient flows
    through the probabilities to the images, not through the choice of pixels: those at or below the threshold get none,
    and an image without any pixel above it gets none at all. The score does not grow with the area of artifacts; add
    `probability.mean((1, 2))` to the loss where area should count. At `threshold=0` all pixels count.

    The reward is a `torch.nn.Module`: frozen, and always in evaluation mode. It compiles with `torch.compile`. The
    images' range is checked in the first call only, with some slack for decoders that overshoot.

    Example:
        >>> import torch
        >>> from flawforge import load_reward
        >>> reward = load_reward("tinytown/regions-convnext")
        >>> images = torch.rand(2, 3, 64, 64, requires_grad=True)
        >>> score, probability = reward(images)
        >>> score.mean().backward()
        >>> score.shape, probability.shape, images.grad.shape
        (torch.Size([2]), torch.Size([2, 64, 64]), torch.Size([2, 3, 64, 64]))

    Args:
        folder: a checkpoint's folder, a hub id in the local cache, or a shipped one such as
            `tinytown/regions-convnext`.
        threshold: probability above which a pixel counts in the score, 0 to below 1.
        device: where the network runs; images must be there, too.
        dtype: of the network, float32 if None. Images of other types are converted; the results are float32, or
            float64 where this is.

    Raises:
        ArgumentError: a value that is not allowed; from the reward itself, images of another shape, type, device or
            range.
        ModelError: a checkpoint that cannot be loaded, or there is no GPU.
    """
    if device not in ("cpu", "cuda"):
        raise ArgumentError("device", f"found {device!r}; allowed: cpu, cuda")
    from actors.segmentation.reward import Reward

    return Reward(str(folder), threshold=threshold, device=device, dtype=dtype)
