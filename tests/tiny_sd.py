"""The golden folder's random UNet, its schedule, and samples to invert."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from diffusers.models.embeddings import Timesteps
from torch import Tensor, nn

from actors.diffusion.conditioning import Conditioning
from actors.diffusion.prompts import Prompts
from actors.diffusion.schedule import Schedule

GOLDEN = Path(__file__).parent / "golden"


class DoublePrecisionTimesteps(nn.Module):
    """The sinusoidal time embedding of diffusers, computed in float64.

    `diffusers.models.embeddings.get_timestep_embedding` computes in float32 whatever the precision of the network. Its
    values depend on the CPU (MKL) and on the batch size, and limit float64 comparisons to about 1e-6.
    """

    def __init__(self, single: Timesteps) -> None:
        super().__init__()
        self.single = single

    def forward(self, timesteps: Tensor) -> Tensor:
        """float64 [B, channels] of timesteps [B]."""
        half = self.single.num_channels // 2
        assert self.single.num_channels == 2 * half
        exponents = torch.arange(half, dtype=torch.float64) / (half - self.single.downscale_freq_shift)
        angles = self.single.scale * timesteps[:, None].double() * torch.exp(-math.log(10_000) * exponents)
        waves = (angles.cos(), angles.sin()) if self.single.flip_sin_to_cos else (angles.sin(), angles.cos())
        return torch.cat(waves, dim=-1)


@cache
def published_unet() -> UNet2DConditionModel:
    """The float64 network with diffusers' own float32 time embedding, as the published program ran it."""
    net = UNet2DConditionModel.from_pretrained(GOLDEN / "tiny_sd" / "unet").double().eval()
    return net.requires_grad_(False)


@cache
def unet(dtype: torch.dtype = torch.float64) -> UNet2DConditionModel:
    """The network with a float64 time embedding."""
    net = UNet2DConditionModel.from_pretrained(GOLDEN / "tiny_sd" / "unet").to(dtype).eval()
    net.time_proj = DoublePrecisionTimesteps(net.time_proj)
    return net.requires_grad_(False)


def denoise(latents: Tensor, timestep: int, prompts: Tensor) -> Tensor:
    """The noise that `unet` predicts, in float64."""
    return unet()(latents, timestep, prompts, return_dict=False)[0]


def denoise_as_published(latents: Tensor, timestep: int, prompts: Tensor) -> Tensor:
    """The noise that `published_unet` predicts, in float64."""
    return published_unet()(latents, timestep, prompts, return_dict=False)[0]


@cache
def scheduler(**changes: Any) -> DDIMScheduler:
    """Stable Diffusion 1.5's, with other settings where `changes` says so."""
    stored = DDIMScheduler.from_pretrained(GOLDEN / "tiny_sd" / "scheduler")
    return DDIMScheduler.from_config(stored.config, **changes)


@dataclass(frozen=True)
class Samples:
    """Inputs of an inversion, row by row.

    Attributes:
        latents: [B, 4, h, w].
        prompts, negatives: [B, tokens, 32].
        seeds: one per row.
    """

    latents: Tensor
    prompts: Tensor
    negatives: Tensor
    seeds: list[int]

    def __getitem__(self, rows: list[int]) -> Samples:
        return Samples(
            self.latents[rows], self.prompts[rows], self.negatives[rows], [self.seeds[row] for row in rows]
        )

    @property
    def conditioning(self) -> Conditioning:
        """The prompts without guidance."""
        return Conditioning(Prompts(self.prompts))

    def guided(self, scale: float) -> Conditioning:
        """The prompts with guidance away from the negatives."""
        return Conditioning(Prompts(self.prompts), Prompts(self.negatives), scale)

    def to(self, dtype: torch.dtype) -> Samples:
        return Samples(
            *(value.to(dtype) for value in (self.latents, self.prompts, self.negatives)), self.seeds
        )


def golden_samples() -> Samples:
    """The three that the golden files were made of."""
    with np.load(GOLDEN / "inputs_16.npz") as stored:
        names = ("z0", "prompt_embeds", "negative_prompt_embeds")
        values = [torch.from_numpy(stored[name]).double() for name in names]
        return Samples(*values, stored["seeds"].tolist())


def drawn_samples(rows: int, height: int = 8, width: int = 8, *, seed: int = 0) -> Samples:
    """Random ones with short prompts, float64."""
    generator = torch.Generator().manual_seed(seed)
    latents, prompts, negatives = (
        torch.randn(shape, generator=generator, dtype=torch.float64)
        for shape in ((rows, 4, height, width), (rows, 5, 32), (rows, 5, 32))
    )
    return Samples(latents, prompts, negatives, [1000 * seed + 7 * row for row in range(rows)])


def coefficients(schedule: Schedule) -> list[tuple[float, float]]:
    """Every step's update as a z + c e, from the text-book formula in float64."""
    pairs = zip(
        schedule.alpha_prod_prev.double().tolist(), schedule.alpha_prod.double().tolist(), strict=True
    )
    factors = []
    for before, after in pairs:
        a = (after / before) ** 0.5
        factors.append((a, (1 - after) ** 0.5 - a * (1 - before) ** 0.5))
    return factors
