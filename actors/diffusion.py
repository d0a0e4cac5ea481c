"""A latent diffusion model for inference: pixels to latents and back, text to conditioning, one UNet evaluation."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from diffusers import DDIMScheduler
from numpy.typing import NDArray
from torch import Tensor

from actors import prompts as text
from actors.device import device_for
from actors.errors import ModelError
from actors.families import Networks, load
from actors.prompts import Prompts

__all__ = ["DTYPES", "DiffusionModel", "Prompts"]

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class DiffusionModel:
    """Autoencoder, text encoders, UNet and schedule, on one device, for inference.

    Stable Diffusion 1.x, 2.x (epsilon or v prediction) and XL. Latents are float32 at every seam; only the networks
    compute in `dtype`, and SDXL's autoencoder may stay in float32, see `actors.families.load`.

    Args:
        model: `tinytown`, a folder, or a hub id that is in the local cache.
        revision: of a hub id.
        dtype: a name in `DTYPES`.
        device: `cpu` or `cuda`.
        channels_last: memory format of UNet and autoencoder; faster in half precision on a GPU.
        compiled: compile the UNet. Every shape of latents is compiled anew, at its first evaluation.

    Raises:
        ModelError: weights are missing, are not safetensors, hold NaN, or do not fit together.
    """

    scheduler: DDIMScheduler

    def __init__(
        self,
        model: str,
        *,
        revision: str | None = None,
        dtype: str = "float32",
        device: str = "cpu",
        channels_last: bool = False,
        compiled: bool = False,
    ) -> None:
        where = device_for(device)
        networks = load(model, revision=revision, dtype=DTYPES[dtype])
        self._take(model, networks, where, channels_last, compiled)

    @classmethod
    def of(
        cls,
        name: str,
        networks: Networks,
        *,
        device: str = "cpu",
        channels_last: bool = False,
        compiled: bool = False,
    ) -> DiffusionModel:
        """A model of networks that are there already, in their own precision."""
        model = cls.__new__(cls)
        model._take(name, networks, device_for(device), channels_last, compiled)
        return model

    @property
    def cell(self) -> int:
        """Pixels per latent cell, along one side."""
        return int(2 ** (len(self.vae.config.block_out_channels) - 1))

    @property
    def smallest_step(self) -> int:
        """Image sides must be a multiple of this many pixels."""
        return self.cell * int(2 ** (len(self.unet.config.block_out_channels) - 1))

    @property
    def latent_channels(self) -> int:
        return int(self.unet.config.in_channels)

    @torch.no_grad()
    def encode(self, images: NDArray[np.uint8]) -> Tensor:
        """Images to scaled latents, the posterior's mode.

        Args:
            images: uint8 [B, H, W, 3]; H and W may differ.

        Returns:
            float32 [B, C, h, w] on the model's device.

        Raises:
            ModelError: the size does not pass through the model.
            ValueError: other arrays than such images.
        """
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3:
            raise ValueError(f"images are {images.dtype} {images.shape}; they must be uint8 [B, H, W, 3]")
        self.check_size(*images.shape[1:3])
        pixels = torch.from_numpy(images).to(self.device).permute(0, 3, 1, 2).float() / 127.5 - 1
        pixels = pixels.contiguous(memory_format=self._format)
        posterior = self.vae.encode(pixels.to(self.vae.dtype)).latent_dist
        latents = posterior.mode().float() * self.vae.config.scaling_factor
        return latents.contiguous(memory_format=self._format)

    @torch.no_grad()
    def decode(self, latents: Tensor) -> NDArray[np.uint8]:
        """Scaled latents [B, C, h, w] to images, uint8 [B, H, W, 3].

        Pixels are rounded on the device; they and the word whether all are finite leave it in one copy.

        Raises:
            ModelError: the pictures hold NaN, as with half precision that overflows.
        """
        scaled = (latents / self.vae.config.scaling_factor).to(self.vae.dtype)
        images = self.vae.decode(scaled).sample.float().permute(0, 2, 3, 1)
        finite = torch.isfinite(images).all().to(torch.uint8)
        pixels = images.clamp(-1, 1).add(1).mul(127.5).round().to(torch.uint8)
        packed = torch.cat([pixels.flatten(), finite[None]]).cpu().numpy()
        if not packed[-1]:
            raise ModelError(
                f"{self.name} gives NaN or infinite pixels; try corruption.dtype bfloat16 or float32"
            )
        decoded: NDArray[np.uint8] = packed[:-1].reshape(pixels.shape)
        return decoded

    @torch.no_grad()
    def embed(self, prompts: list[str], size: tuple[int, int] | None = None) -> Prompts:
        """Text conditioning of prompts; an empty prompt is one.

        Args:
            prompts: one per sample.
            size: (height, width) of the images in pixels, which SDXL needs.

        Raises:
            ValueError: no `size` for SDXL.
        """
        return text.encode(self.texts, prompts, device=self.device, size=size)

    @torch.no_grad()
    def denoise(
        self,
        latents: Tensor,
        timestep: int,
        prompt_embeds: Tensor,
        added_cond_kwargs: Mapping[str, Tensor] | None = None,
    ) -> Tensor:
        """The UNet's output for `latents` [B, C, h, w] at a timestep: noise, or v if the scheduler says so; float32.

        Args:
            latents: noisy latents [B, C, h, w].
            timestep: 0 to 999, of all rows.
            prompt_embeds: `Prompts.embeds`, [B, tokens, width].
            added_cond_kwargs: `Prompts.added`.
        """
        # A timestep that is a tensor neither waits for the device nor compiles the UNet anew.
        timesteps = torch.full((len(latents),), timestep, device=latents.device)
        predicted = self.unet(
            latents.to(self.dtype).contiguous(memory_format=self._format),
            timesteps,
            prompt_embeds.to(self.dtype),
            added_cond_kwargs=added_cond_kwargs,
            return_dict=False,
        )[0]
        return predicted.float()

    def check_size(self, height: int, width: int | None = None) -> None:
        """Refuses sizes that do not pass through the model.

        Args:
            height: in pixels.
            width: in pixels; without it the images are square.

        Raises:
            ModelError: a side is no multiple of `smallest_step`.
        """
        step, sides = self.smallest_step, (height, height if width is None else width)
        if any(side <= 0 or side % step for side in sides):
            size = f"{height}" if sides[0] == sides[1] else f"{sides[1]} x {height}"
            near = max(step, step * round(height / step))
            raise ModelError(
                f"source.size is {size}; {self.name} takes sides that are a multiple of {step} pixels, such as {near}"
            )

    def _take(
        self, name: str, networks: Networks, device: torch.device, channels_last: bool, compiled: bool
    ) -> None:
        self.name, self.device = name, device
        self.scheduler, self.texts = networks.scheduler, networks.texts
        self.vae, self.unet = networks.vae, networks.unet
        self.dtype: torch.dtype = self.unet.dtype
        self._format = torch.channels_last if channels_last else torch.contiguous_format
        for network in (self.vae, self.unet, *(encoder.network for encoder in self.texts)):
            network.requires_grad_(False).eval().to(device)
        self.vae.to(memory_format=self._format)
        self.unet.to(memory_format=self._format)
        if compiled:
            self.unet.compile(dynamic=False, fullgraph=True)
