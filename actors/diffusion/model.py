"""A latent diffusion model for inference: pixels to latents and back, text to conditioning, one UNet evaluation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from diffusers import DDIMScheduler
from numpy.typing import NDArray
from torch import Tensor

from actors.device import device_for
from actors.diffusion import prompts as text
from actors.diffusion.loading import Networks, load
from actors.diffusion.memory import memory_errors_explained
from actors.diffusion.prompts import Prompts
from actors.errors import ModelError
from actors.finite import finite_rows

__all__ = ["DTYPES", "Decoded", "DiffusionModel", "Prompts"]

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True, eq=False)
class Decoded:
    """Decoded images, and which of them are to be used.

    Attributes:
        images: uint8 [B, H, W, 3]; a row that is not finite has no meaning.
        finite: bool [B], whether the pixels of a row were free of NaN and infinity.
        latents_finite: bool [B], the same of the latents that were decoded.
    """

    images: NDArray[np.uint8]
    finite: NDArray[np.bool_]
    latents_finite: NDArray[np.bool_]


class DiffusionModel:
    """Autoencoder, text encoders, UNet and schedule, on one device, for inference.

    Stable Diffusion 1.x, 2.x (epsilon or v prediction) and XL. Latents are float32 at every seam; only the networks
    compute in `dtype`, and SDXL's autoencoder may stay in float32, see `actors.diffusion.loading.load`.

    Args:
        model: `tinytown`, a folder, or a hub id that is in the local cache.
        revision: of a hub id.
        dtype: a name in `DTYPES`.
        device: `cpu` or `cuda`.
        channels_last: memory format of UNet and autoencoder; faster in half precision on a GPU.
        compiled: compile the UNet. Every shape of latents is compiled anew, at its first evaluation; kernels are chosen
            by rule and not by timing, so that processes on equal machines compile alike.
        vae_batch_size: rows of every call of the autoencoder, which the last ones are padded to; None takes a batch as
            it comes.

    Raises:
        ModelError: weights are missing, are not safetensors, hold NaN, or do not fit together; or this torch cannot
            compile deterministically.
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
        vae_batch_size: int | None = None,
    ) -> None:
        where = device_for(device)
        networks = load(model, revision=revision, dtype=DTYPES[dtype])
        self._take(model, networks, where, channels_last, compiled, vae_batch_size)

    @classmethod
    def of(
        cls,
        name: str,
        networks: Networks,
        *,
        device: str = "cpu",
        channels_last: bool = False,
        compiled: bool = False,
        vae_batch_size: int | None = None,
    ) -> DiffusionModel:
        """A model of networks that are already loaded, in their own precision."""
        model = cls.__new__(cls)
        model._take(name, networks, device_for(device), channels_last, compiled, vae_batch_size)
        return model

    @property
    def vae_scale_factor(self) -> int:
        """Image pixels per latent pixel, along one side."""
        return int(2 ** (len(self.vae.config.block_out_channels) - 1))

    @property
    def smallest_step(self) -> int:
        """Image sides must be a multiple of this many pixels."""
        return self.vae_scale_factor * int(2 ** (len(self.unet.config.block_out_channels) - 1))

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
        with self._memory("encoding images", len(images), *images.shape[1:3]):
            parts = [
                self._encode(rows)[:count] for rows, count in self._micro_batches(torch.from_numpy(images))
            ]
        latents = parts[0] if len(parts) == 1 else torch.cat(parts)
        return latents.contiguous(memory_format=self._format)

    @torch.no_grad()
    def decode(self, latents: Tensor) -> NDArray[np.uint8]:
        """Scaled latents [B, C, h, w] to images, uint8 [B, H, W, 3].

        Raises:
            ModelError: an image holds NaN or infinity, as with half precision that overflows.
        """
        decoded = self.decode_rows(latents)
        if not decoded.finite.all():
            raise ModelError(
                f"{self.name} gives NaN or infinite pixels; try corruption.dtype bfloat16 or float32"
            )
        return decoded.images

    @torch.no_grad()
    def decode_rows(self, latents: Tensor) -> Decoded:
        """The same row by row: one that is not finite is marked, and does not touch the others.

        Pixels are rounded on the device; they and the marks leave it in one copy.
        """
        height, width = (side * self.vae_scale_factor for side in latents.shape[2:])
        pixels, finite = list[Tensor](), list[Tensor]()
        with self._memory("decoding latents", len(latents), height, width):
            for rows, count in self._micro_batches(latents):
                images = self._decode(rows)[:count]
                finite.append(finite_rows(images))
                pixels.append(images.clamp(-1, 1).add(1).mul(127.5).round().to(torch.uint8))
        shape = (len(latents), *pixels[0].shape[1:])
        marks = [torch.cat(finite), finite_rows(latents)]
        packed = torch.cat([*(rows.flatten() for rows in pixels), *(mark.to(torch.uint8) for mark in marks)])
        found: NDArray[np.uint8] = packed.cpu().numpy()
        count = 2 * len(latents)
        images_finite, latents_finite = found[-count:].astype(bool).reshape(2, -1)
        return Decoded(found[:-count].reshape(shape), images_finite, latents_finite)

    @torch.no_grad()
    def embed(self, prompts: list[str], size: tuple[int, int] | None = None) -> Prompts:
        """Text conditioning of prompts; an empty prompt is one.

        Args:
            prompts: one per sample.
            size: (height, width) of the images in pixels, which SDXL needs.

        Raises:
            ValueError: no `size` for SDXL.
        """
        rows = len(prompts)
        part = "encoding prompts (text encoder)"
        with memory_errors_explained(part, self.device, setting="corruption.batch_size", rows=rows):
            return text.encode(self.texts, prompts, device=self.device, size=size)

    @torch.no_grad()
    def denoise(
        self,
        latents: Tensor,
        timestep: int,
        prompt_embeds: Tensor,
        added_cond_kwargs: Mapping[str, Tensor] | None = None,
    ) -> Tensor:
        """The UNet's output for `latents` [B, C, h, w] at a timestep: noise or v, by the scheduler's config; float32.

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

    def _encode(self, images: Tensor) -> Tensor:
        pixels = images.to(self.device).permute(0, 3, 1, 2).float() / 127.5 - 1
        pixels = pixels.contiguous(memory_format=self._format)
        posterior = self.vae.encode(pixels.to(self.vae.dtype)).latent_dist
        latents: Tensor = posterior.mode().float() * self.vae.config.scaling_factor
        return latents

    def _decode(self, latents: Tensor) -> Tensor:
        scaled = (latents / self.vae.config.scaling_factor).to(self.vae.dtype)
        images: Tensor = self.vae.decode(scaled).sample.float().permute(0, 2, 3, 1)
        return images

    def _micro_batches(self, rows: Tensor) -> Iterator[tuple[Tensor, int]]:
        """The rows as the autoencoder takes them, all of one shape, and how many of a batch are no padding."""
        size = self.vae_batch_size or len(rows)
        for first in range(0, len(rows), size):
            batch = rows[first : first + size]
            count = len(batch)
            if count < size:
                batch = torch.cat([batch, batch[-1:].expand(size - count, *batch.shape[1:])])
            yield batch, count

    def _memory(self, doing: str, rows: int, height: int, width: int) -> AbstractContextManager[None]:
        return memory_errors_explained(
            f"{doing} (autoencoder)",
            self.device,
            setting="corruption.vae_batch_size",
            rows=self.vae_batch_size or rows,
            size=(height, width),
        )

    def _take(
        self,
        name: str,
        networks: Networks,
        device: torch.device,
        channels_last: bool,
        compiled: bool,
        vae_batch_size: int | None,
    ) -> None:
        self.name, self.device, self.vae_batch_size = name, device, vae_batch_size
        self.scheduler, self.texts = networks.scheduler, networks.texts
        self.vae, self.unet = networks.vae, networks.unet
        self.dtype: torch.dtype = self.unet.dtype
        self._format = torch.channels_last if channels_last else torch.contiguous_format
        parts: list[tuple[str, Any]] = [("vae", self.vae), ("unet", self.unet)]
        parts += [(encoder.part, encoder.network) for encoder in self.texts]
        for part, network in parts:
            with memory_errors_explained(f"loading {part} of {name}", device):
                network.requires_grad_(False).eval().to(device)
        self.vae.to(memory_format=self._format)
        self.unet.to(memory_format=self._format)
        if compiled:
            self.unet.compile(dynamic=False, fullgraph=True, options=_deterministic())


def _deterministic() -> dict[str, bool]:
    """Inductor's options for kernels that are chosen by rule; it would else time several and keep the fastest, and
    their sums run in different orders."""
    from torch._inductor import config

    if not hasattr(config, "deterministic"):
        raise ModelError(
            f"torch {torch.__version__} cannot compile deterministically: install a newer one, or set "
            "corruption.compiled to false"
        )
    return {"deterministic": True}
