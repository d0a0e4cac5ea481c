"""ReNoise's regularisation of predicted noise, for whole batches, with both gradients in closed form.

Garibi et al. 2024, section 3.4: the noise is drawn towards that of the noised image (KL divergence of patches) and
towards white noise (auto-correlation at random shifts of an image pyramid).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

STEPS = 4
ROLLS = 5
KL_WEIGHT = 0.065
CORRELATION_WEIGHT = 20.0
PATCH = 4
SMALLEST_LEVEL = 8
"""Height from which the pyramid is not reduced any further."""

_EPSILON = 1e-6
_STEEPEST = 100.0


class NoiseRegulariser:
    """Regularises the noise of a batch; every sample draws from a generator of its own.

    Args:
        seeds: one per sample.
        shape: (C, h, w) of a latent.
        dtype, device: of the latents.

    Raises:
        ValueError: latents too narrow for the pyramid, which is as deep as their height demands.

    Attributes:
        noise: [B, C, h, w], the second normal draw of every generator; the published program drops the first.
        generators: one per sample, on the CPU.
    """

    def __init__(
        self, seeds: Sequence[int], shape: Sequence[int], dtype: torch.dtype, device: torch.device
    ) -> None:
        self.generators = tuple(torch.Generator().manual_seed(seed) for seed in seeds)
        draws = [
            [torch.randn(tuple(shape), generator=one, dtype=dtype) for _ in range(2)]
            for one in self.generators
        ]
        self.noise = torch.stack([second for _, second in draws]).to(device)
        self._heights = _levels(shape[1])
        if not shape[2] >> (len(self._heights) - 1):
            raise ValueError(
                f"latents of {shape[1]} x {shape[2]} are too narrow for regularisation, which halves them "
                f"{len(self._heights) - 1} times; set regularisation=False, or mode fast"
            )
        self._channels = shape[0]

    def __call__(self, noise: Tensor, wanted: Tensor) -> Tensor:
        """Brings `noise` closer to the statistics of `wanted` and to white noise; all [B, C, h, w]."""
        shifts = self._shifts().to(noise.device)
        for step in range(STEPS):
            noise = noise - KL_WEIGHT * kl_gradient(noise, wanted).clamp(-_STEEPEST, _STEEPEST)
            for roll in range(ROLLS):
                noise = noise - CORRELATION_WEIGHT * (
                    correlation_gradient(noise, shifts[:, step, roll]) / ROLLS
                )
        return noise

    def _shifts(self) -> Tensor:
        """Random shifts, int64 [B, STEPS, ROLLS, C, levels], as one draw after the other would give them.

        A draw below `n` is a 32-bit word modulo n, so words modulo a common multiple serve every level at once.
        """
        bounds = torch.tensor([height // 2 for height in self._heights])
        shape = (STEPS, ROLLS, self._channels, len(bounds))
        multiple = math.lcm(*bounds.tolist())
        words = [torch.randint(0, multiple, shape, generator=one) for one in self.generators]
        return torch.stack(words) % bounds


def kl_gradient(noise: Tensor, wanted: Tensor) -> Tensor:
    """Gradient by `noise` of the sum over patches and channels of |KL|; both [B, C, h, w].

    With means m and unbiased variances v of the 4 x 4 pixels of a patch (0 of `noise`, 1 of `wanted`), KL stands for
    log((v1 + e) / (v0 + e)) + (v0 + (m0 - m1)^2) / (v1 + e) - 1, e = 1e-6. Pixels beyond the last whole patch have
    no gradient.
    """
    height, width = (size // PATCH * PATCH for size in noise.shape[-2:])
    mine, other = (_patches(one[..., :height, :width]) for one in (noise, wanted))
    count = PATCH * PATCH
    mean, other_mean = mine.mean(-1, keepdim=True), other.mean(-1, keepdim=True)
    variance = mine.var(-1, keepdim=True) + _EPSILON
    other_variance = other.var(-1, keepdim=True) + _EPSILON
    apart = mean - other_mean
    value = (other_variance / variance).log() + (variance - _EPSILON + apart.square()) / other_variance - 1
    by_variance = (1 / other_variance - 1 / variance) * 2 / (count - 1) * (mine - mean)
    by_mean = 2 * apart / other_variance / count
    gradient = torch.zeros_like(noise)
    inside = _unpatched(value.sign() * (by_variance + by_mean), height, width)
    gradient[..., :height, :width] = inside
    return gradient


def correlation_gradient(noise: Tensor, shifts: Tensor) -> Tensor:
    """Gradient by `noise` of the squared auto-correlations, summed over channels, levels and both axes.

    Args:
        noise: [B, C, h, w].
        shifts: int64 [B, C, levels], how far a level is rolled against itself, along rows and along columns.
    """
    pyramid = [noise]
    for _ in range(shifts.shape[-1] - 1):
        pyramid.append(F.avg_pool2d(pyramid[-1], 2))
    gradient: Tensor | None = None
    for level in reversed(range(len(pyramid))):
        here = pyramid[level]
        total = sum(_one_axis(here, shifts[..., level], axis) for axis in (2, 3))
        assert isinstance(total, Tensor)
        if gradient is not None:
            total = total + _spread(gradient, here.shape[-2:])
        gradient = total
    assert gradient is not None
    return gradient


def _one_axis(noise: Tensor, shifts: Tensor, axis: int) -> Tensor:
    """Gradient of mean(x roll(x, r))^2 with r [B, C]: 2 mean (roll(x, r) + roll(x, -r)) / pixels."""
    size = noise.shape[axis]
    places = torch.arange(size, device=noise.device)
    shape = [*shifts.shape, 1, 1]
    shape[axis] = size
    behind, ahead = (
        ((places + sign * shifts[..., None]) % size).view(shape).expand(noise.shape) for sign in (-1, 1)
    )
    rolled = noise.gather(axis, behind)
    mean = (noise * rolled).mean((2, 3), keepdim=True)
    return 2 * mean * (rolled + noise.gather(axis, ahead)) / noise[0, 0].numel()


def _spread(gradient: Tensor, size: Sequence[int]) -> Tensor:
    """The gradient of 2 x 2 average pooling; an odd last row or column has none."""
    wide = gradient.repeat_interleave(2, 2).repeat_interleave(2, 3) / 4
    return F.pad(wide, (0, size[1] - wide.shape[3], 0, size[0] - wide.shape[2]))


def _levels(height: int) -> list[int]:
    heights = [height]
    while heights[-1] > SMALLEST_LEVEL:
        heights.append(heights[-1] // 2)
    return heights


def _patches(images: Tensor) -> Tensor:
    """[B, C, h, w] to [B, C, h / 4, w / 4, 16]."""
    batch, channels, height, width = images.shape
    grid = images.reshape(batch, channels, height // PATCH, PATCH, width // PATCH, PATCH)
    return grid.permute(0, 1, 2, 4, 3, 5).flatten(4)


def _unpatched(patches: Tensor, height: int, width: int) -> Tensor:
    batch, channels, rows, columns, _ = patches.shape
    grid = patches.reshape(batch, channels, rows, columns, PATCH, PATCH)
    return grid.permute(0, 1, 2, 4, 3, 5).reshape(batch, channels, height, width)
