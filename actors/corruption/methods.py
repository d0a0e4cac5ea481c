"""What is done to the latent inside a region. Plain functions in one table, `METHODS`; `corrupt` applies one.

The methods are those of Table 2 of the paper (section 5.3), which gives their names and no parameters.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

BLUR_SIGMA = 2.0
"""Standard deviation of the blur in latent pixels."""

DOWNSCALE = 8
"""Side in latent pixels of the blocks that the downscaled latent is made of."""

_WITHIN_A_SAMPLE = np.array([[[0] * 3] * 3, [[1] * 3] * 3, [[0] * 3] * 3])
"""The eight neighbours of a latent pixel in [B, h, w], none of them in another sample."""

Method = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]
"""(latents, clean, latent_mask, alpha_prod, noise) to the latent [B, C, h, w] that goes inside the mask.

As in `corrupt`, except that `alpha_prod` lies on the latents' device in their type, as [B, 1, 1, 1] or [1, 1, 1, 1].
What a method gives outside the mask is not used.

`noise` is its only source of chance; it is float32, and zero in rows that are padding. No row may depend on another.
Avoid operations that wait for the device. The mask may lie on the CPU.
"""


def corrupt(
    method: str, latents: Tensor, clean: Tensor, latent_mask: Tensor, *, alpha_prod: Tensor, noise: Tensor
) -> Tensor:
    """Replaces the latent inside a region; outside, every value stays as it is.

    A method that looks at the mask on the CPU, as "rotate" does, waits for the device once if the mask lies there. No
    row depends on another.

    Args:
        method: a name in `METHODS`.
        latents: float [B, C, h, w], z_t. z_0 for a corruption of the image latent itself (Table 4).
        clean: z_0 [B, C, h, w].
        latent_mask: bool [B, 1, h, w], true inside; on the latents' device or on the CPU.
        alpha_prod: cumulated alpha (abar) at t in (0, 1], a scalar or [B]; on the latents' device or on the CPU.
        noise: standard normal [B, C, h, w].

    Returns:
        [B, C, h, w], a tensor of its own of the latents' type.

    Raises:
        ValueError: an unknown method; a wrong shape or type; `alpha_prod` outside (0, 1], which is checked on the CPU
            only, since a check on a GPU would wait for it.
    """
    _check(method, latents, clean, latent_mask, alpha_prod, noise)
    level = alpha_prod.to(latents.device, latents.dtype, non_blocking=True).reshape(-1, 1, 1, 1)
    inside = METHODS[method](latents, clean, latent_mask, level, noise).to(latents.dtype)
    return torch.where(latent_mask.to(latents.device, non_blocking=True), inside, latents)


def noised_clean_latent(
    latents: Tensor, clean: Tensor, latent_mask: Tensor, alpha_prod: Tensor, noise: Tensor
) -> Tensor:
    """The paper's proposal, Eq. 5: z_0 noised to the level of z_t, sqrt(abar) z_0 + sqrt(1 - abar) noise."""
    return alpha_prod.sqrt() * clean + (1 - alpha_prod).sqrt() * noise


def gaussian_noise(
    latents: Tensor, clean: Tensor, latent_mask: Tensor, alpha_prod: Tensor, noise: Tensor
) -> Tensor:
    """N(0, 1), whatever the level of z_t."""
    return noise


def blurred(latents: Tensor, clean: Tensor, latent_mask: Tensor, alpha_prod: Tensor, noise: Tensor) -> Tensor:
    """The latent blurred by a Gaussian, which also reads values from outside the region.

    The paper gives no width. Ours is `BLUR_SIGMA`, cut off at three of it; the latent's edge is repeated.
    """
    return _smoothed(_smoothed(latents, 2), 3)


def turned(latents: Tensor, clean: Tensor, latent_mask: Tensor, alpha_prod: Tensor, noise: Tensor) -> Tensor:
    """The latent turned by 90 degrees counter-clockwise, like `numpy.rot90`.

    The paper does not state what is rotated. Here, for every connected region (latent pixels that touch at a side or
    a corner), its bounding square is rotated, and only the region's own pixels take the rotated values. So an L takes
    values from its surroundings, and a region of one pixel stays unchanged. See `_bounding_square` for regions at the
    edge.
    """
    places = torch.from_numpy(_places_turned(latent_mask[:, 0].cpu().numpy()))
    # Without non_blocking, the copy of the places would wait for the device.
    index = places.to(latents.device, non_blocking=True)[:, None].expand(-1, latents.shape[1], -1)
    return latents.flatten(2).gather(2, index).reshape(latents.shape)


def downscaled(
    latents: Tensor, clean: Tensor, latent_mask: Tensor, alpha_prod: Tensor, noise: Tensor
) -> Tensor:
    """The latent in blocks of `DOWNSCALE` x `DOWNSCALE` latent pixels, each at its mean: the paper's 8x.

    The paper names no filter; ours are the mean and the nearest. The last block of a row or column is what is left.
    """
    means = F.avg_pool2d(latents, DOWNSCALE, ceil_mode=True)
    blocks = means.repeat_interleave(DOWNSCALE, 2).repeat_interleave(DOWNSCALE, 3)
    return blocks[..., : latents.shape[2], : latents.shape[3]]


def nothing(latents: Tensor, clean: Tensor, latent_mask: Tensor, alpha_prod: Tensor, noise: Tensor) -> Tensor:
    """No corruption: the round trip through the model, for pseudo labels and clean negatives."""
    return latents


METHODS: dict[str, Method] = {
    "noise": noised_clean_latent,
    "gaussian": gaussian_noise,
    "blur": blurred,
    "rotate": turned,
    "downscale": downscaled,
    "none": nothing,
}

CHANCE = ("noise", "gaussian")
"""Methods that use `noise`. The others are drawn once at each k, whatever `verify.attempts` says."""


def to_latent_mask(masks: Tensor, height: int, width: int) -> Tensor:
    """Brings pixel masks to latent resolution without losing thin regions.

    A latent pixel is solid if the mask covers at least half of it. The result has all solid pixels; touched pixels
    without a solid pixel among themselves and their eight neighbours; and all touched pixels of a connected part of
    the mask that would otherwise have none. This preserves lines thinner than half a latent pixel, except for the pixel
    next to a solid region that a line grows out of, and does not widen solid regions.

    Args:
        masks: bool [B, H, W]; H and W are multiples of `height` and `width`.

    Returns:
        bool [B, 1, height, width].

    Raises:
        ValueError: masks whose sides are not multiples of the latent's.
    """
    rows, columns = masks.shape[1] // height, masks.shape[2] // width
    if (rows * height, columns * width) != tuple(masks.shape[1:]):
        raise ValueError(
            f"masks of {masks.shape[2]} x {masks.shape[1]} pixels do not divide into {width} x {height} latent pixels"
        )
    covered = F.avg_pool2d(masks[:, None].float(), (rows, columns))
    solid = covered >= 0.5
    near_solid = F.max_pool2d(solid.float(), 3, stride=1, padding=1) > 0
    chosen = solid | ((covered > 0) & ~near_solid)
    lost = _parts_without_latent_pixels(
        masks, chosen.repeat_interleave(rows, 2).repeat_interleave(columns, 3)[:, 0]
    )
    return chosen | (F.max_pool2d(lost[:, None].float(), (rows, columns)) > 0)


def draw_noise(seeds: list[int], shape: tuple[int, ...]) -> Tensor:
    """Standard normal noise [B, *shape], each row from its own CPU generator, so that neighbours do not matter."""
    rows = [torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    return torch.stack(rows)


def _check(
    method: str, latents: Tensor, clean: Tensor, latent_mask: Tensor, alpha_prod: Tensor, noise: Tensor
) -> None:
    if method not in METHODS:
        raise ValueError(f"no corruption {method!r}; there are {', '.join(METHODS)}")
    shape = list(latents.shape)
    if len(shape) != 4 or not latents.is_floating_point():
        raise ValueError(f"the latents are {latents.dtype} {shape}; wanted: floating point [B, C, h, w]")
    for name, tensor in (("clean", clean), ("noise", noise)):
        if tensor.shape != latents.shape:
            raise ValueError(f"{name} is {list(tensor.shape)}, the latents are {shape}")
    wanted = [shape[0], 1, *shape[2:]]
    if latent_mask.dtype != torch.bool or list(latent_mask.shape) != wanted:
        raise ValueError(
            f"latent_mask is {latent_mask.dtype} {list(latent_mask.shape)}; latents {shape} need torch.bool {wanted}"
        )
    if list(alpha_prod.shape) not in ([], shape[:1]):
        raise ValueError(
            f"alpha_prod is {list(alpha_prod.shape)}; wanted: a scalar or [{shape[0]}], one for each latent"
        )
    if alpha_prod.device.type == "cpu" and not bool(((alpha_prod > 0) & (alpha_prod <= 1)).all()):
        raise ValueError(f"alpha_prod is {alpha_prod.tolist()}; cumulated alphas lie above 0 and up to 1")


def _parts_without_latent_pixels(masks: Tensor, chosen: Tensor) -> Tensor:
    """The connected parts of masks of which no pixel is chosen; all bool [B, H, W]."""
    labels, parts = ndimage.label(masks.numpy(), _WITHIN_A_SAMPLE)
    found = np.zeros(parts + 1, dtype=bool)
    found[labels[chosen.numpy()]] = True
    found[0] = True
    return torch.from_numpy(~found[labels])


def _smoothed(latents: Tensor, axis: int) -> Tensor:
    """A Gaussian of `BLUR_SIGMA` along one axis, the edge repeated.

    A sum of shifted copies has the same rounding wherever a row stands in the batch. A convolution promises no
    such thing, and on a GPU it may multiply in TF32.
    """
    radius, size = math.ceil(3 * BLUR_SIGMA), latents.shape[axis]
    weights = [math.exp(-0.5 * (step / BLUR_SIGMA) ** 2) for step in range(-radius, radius + 1)]
    total = sum(weights)
    places = torch.arange(-radius, size + radius, device=latents.device).clamp(0, size - 1)
    padded = latents.index_select(axis, places)
    smoothed = torch.zeros_like(latents)
    for first, weight in enumerate(weights):
        smoothed = smoothed + weight / total * padded.narrow(axis, first, size)
    return smoothed


def _places_turned(latent_mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Where each latent pixel takes its value from: places 0 to h w - 1, [B, h w]; outside the regions its own.

    Args:
        latent_mask: [B, h, w].
    """
    count, height, width = latent_mask.shape
    places = np.broadcast_to(np.arange(height * width).reshape(height, width), latent_mask.shape).copy()
    labels, regions = ndimage.label(latent_mask, _WITHIN_A_SAMPLE)
    if regions:
        squares = [
            _bounding_square(rows, columns, height, width)
            for _, rows, columns in ndimage.find_objects(labels)
        ]
        inside = np.nonzero(latent_mask)
        top, left, side = np.array(squares)[labels[inside] - 1].T
        _, row, column = inside
        from_row = np.clip(top + (column - left), 0, height - 1)
        from_column = np.clip(left + (side - 1) - (row - top), 0, width - 1)
        places[inside] = from_row * width + from_column
    return places.reshape(count, height * width)


def _bounding_square(rows: slice, columns: slice, height: int, width: int) -> tuple[int, int, int]:
    """Top, left and side of the square around a box, as long as the box's longer side.

    The box lies in its middle; an odd latent pixel goes below or to the right. A square that leaves the latent is
    shifted back in; on an axis that is shorter than the square it is shifted to cover the axis, and what is left
    beyond counts as the edge.
    """
    side = max(rows.stop - rows.start, columns.stop - columns.start)
    top, left = (
        min(max(box.start - (side - (box.stop - box.start)) // 2, min(0, size - side)), max(0, size - side))
        for box, size in ((rows, height), (columns, width))
    )
    return top, left, side
