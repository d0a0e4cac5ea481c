"""The round trip of images through a diffusion model: inverted once, corrupted and resampled any number of times."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from actors.corruption.config import CorruptionConfig
from actors.corruption.methods import corrupt
from actors.diffusion.conditioning import Conditioning
from actors.diffusion.inversion import invert, resample
from actors.diffusion.memory import memory_errors_explained
from actors.diffusion.model import DiffusionModel, Prompts
from actors.diffusion.schedule import Schedule


@dataclass(frozen=True, eq=False)
class Inverted:
    """Inverted images, which any number of corruptions share: other methods, masks, seeds, and smaller k.

    Attributes:
        at: latents [B, C, h, w] by inversion steps k. 0 is always present, and is the image latent z_0.
        latent_mask: the regions, bool [B, 1, h, w], on the CPU; see `actors.corruption.methods.to_latent_mask`.
        prompts: text conditioning, one row per image.
        unet_rows: int64 [B], UNet evaluations that the inversion cost.
    """

    at: Mapping[int, Tensor]
    latent_mask: Tensor
    prompts: Prompts
    unet_rows: Tensor

    @property
    def clean(self) -> Tensor:
        """z_0, [B, C, h, w]."""
        return self.at[0]

    def __len__(self) -> int:
        return len(self.latent_mask)

    def __getitem__(self, rows: slice | Tensor | list[int]) -> Inverted:
        """The same rows of everything; a slice shares memory."""
        at = {steps: latents[rows] for steps, latents in self.at.items()}
        return Inverted(at, self.latent_mask[rows], self.prompts[rows], self.unet_rows[rows])

    def with_mask(self, latent_mask: Tensor) -> Inverted:
        """The same images with other regions, bool [B, 1, h, w]."""
        return replace(self, latent_mask=latent_mask)

    def only(self, steps: int) -> Inverted:
        """The same without any other k than 0 and `steps`."""
        return replace(self, at={0: self.clean, steps: self.at[steps]})

    @staticmethod
    def cat(parts: Sequence[Inverted]) -> Inverted:
        """The rows of all parts, which have the same k."""
        return Inverted(
            {steps: torch.cat([part.at[steps] for part in parts]) for steps in parts[0].at},
            torch.cat([part.latent_mask for part in parts]),
            Prompts.cat([part.prompts for part in parts]),
            torch.cat([part.unet_rows for part in parts]),
        )


class RoundTrip:
    """Inversion, corruption and resampling with one model and one schedule (Figure 3 of the paper).

    Args:
        model: encodes, denoises and decodes.
        config: the schedule, the inversion and the guidance, which is the same in inversion and resampling and leads
            away from the empty prompt.
    """

    def __init__(
        self,
        model: DiffusionModel,
        config: CorruptionConfig = CorruptionConfig(),  # noqa: B008 (frozen)
    ) -> None:
        self.model = model
        self.config = config
        self._empty: dict[tuple[int, int], Prompts] = {}

    def empty_prompts(self, count: int, size: tuple[int, int]) -> Prompts:
        """`count` rows of the empty prompt; `size` is (height, width) in pixels. It is embedded once per size."""
        if size not in self._empty:
            self._empty[size] = self.model.embed([""], size)
        return self._empty[size].repeat(count)

    def invert(
        self,
        images: NDArray[np.uint8],
        latent_mask: Tensor,
        steps: Sequence[int],
        *,
        prompts: Prompts | None = None,
        seeds: Sequence[int] | None = None,
    ) -> Inverted:
        """Encodes images and inverts them once, to the deepest of `steps`.

        Args:
            images: uint8 [B, H, W, 3].
            latent_mask: bool [B, 1, h, w], the regions.
            steps: every k that is wanted, 0 to n. With none above 0 the UNet is not evaluated.
            prompts: one row per image; None is the empty prompt.
            seeds: one per image, which regularised inversion draws from.

        Raises:
            ValueError: a k outside the schedule, or a latent mask of another shape than the images; see also
                `actors.diffusion.inversion.invert`.
            ModelError: images of a size that the model does not take.
        """
        shape = [len(images), 1, *(side // self.model.vae_scale_factor for side in images.shape[1:3])]
        if latent_mask.dtype != torch.bool or list(latent_mask.shape) != shape:
            raise ValueError(
                f"latent_mask is {latent_mask.dtype} {list(latent_mask.shape)}; images {list(images.shape)} need "
                f"torch.bool {shape}"
            )
        clean = self.model.encode(images)
        prompts = prompts or self.empty_prompts(len(clean), (images.shape[1], images.shape[2]))
        at, unet_rows = {0: clean}, torch.zeros(len(clean), dtype=torch.int64)
        wanted = sorted({k for k in steps if k})
        if wanted:
            with self._memory("inverting (UNet)", clean):
                found = invert(
                    self.model.denoise,
                    self.model.scheduler,
                    clean,
                    self._conditioning(clean, prompts),
                    inference_steps=self.config.inference_steps,
                    inversion_steps=wanted[-1],
                    method=self.config.inversion,
                    seeds=seeds,
                    keep_trajectory=len(wanted) > 1,
                )
            unet_rows = found.unet_rows
            if found.trajectory is None:
                at[wanted[-1]] = found.latents
            else:
                at |= {k: found.trajectory[:, k].clone() for k in wanted}
        return Inverted(at, latent_mask, prompts, unet_rows)

    def draw(
        self, inverted: Inverted, method: str, steps: int, noise: Tensor, *, level: int | None = None
    ) -> Tensor:
        """The latents of a k, corrupted inside the regions; not yet resampled.

        Args:
            inverted: see `invert`; it has this k.
            method: a name in `actors.corruption.methods.METHODS`.
            steps: k; 0 corrupts the image latent itself (Table 4 of the paper).
            noise: standard normal [B, C, h, w], on the latents' device or on the CPU.
            level: k at whose noise level the method works; it must be given where `steps` is 0.

        Returns:
            [B, C, h, w].
        """
        latents = inverted.at[steps]
        schedule = Schedule.of(
            self.model.scheduler,
            inference_steps=self.config.inference_steps,
            inversion_steps=steps if level is None else level,
        )
        return corrupt(
            method,
            latents,
            inverted.clean,
            inverted.latent_mask,
            alpha_prod=schedule.alpha_prod[-1],
            noise=noise.to(latents.device, non_blocking=True),
        )

    def resampled(self, latents: Tensor, prompts: Prompts, steps: int) -> NDArray[np.uint8]:
        """Latents of a k, corrupted or not, back to images.

        Args:
            latents: [B, C, h, w].
            prompts: those of the inversion.
            steps: k; 0 is decoded as it is.

        Returns:
            uint8 [B, H, W, 3].
        """
        return self.model.decode(self.resampled_latents(latents, prompts, steps))

    def resampled_latents(self, latents: Tensor, prompts: Prompts, steps: int) -> Tensor:
        """Image latents [B, C, h, w] of latents of a k: `resampled` without the autoencoder."""
        if not steps:
            return latents
        with self._memory("resampling (UNet)", latents):
            return resample(
                self.model.denoise,
                self.model.scheduler,
                latents,
                self._conditioning(latents, prompts),
                inference_steps=self.config.inference_steps,
                inversion_steps=steps,
            )

    def resampling_rows(self, steps: int) -> int:
        """UNet evaluations per sample of resampling from k = `steps`."""
        return steps * (2 if self.config.guidance_scale > 1 else 1)

    def _memory(self, part: str, latents: Tensor) -> AbstractContextManager[None]:
        height, width = (side * self.model.vae_scale_factor for side in latents.shape[2:])
        return memory_errors_explained(
            part, self.model.device, setting="corruption.batch_size", rows=len(latents), size=(height, width)
        )

    def _conditioning(self, latents: Tensor, prompts: Prompts) -> Conditioning:
        """The prompts with the configured guidance away from the empty prompt."""
        scale = self.config.guidance_scale
        if scale <= 1:
            return Conditioning(prompts)
        height, width = (side * self.model.vae_scale_factor for side in latents.shape[2:])
        return Conditioning(prompts, self.empty_prompts(len(latents), (height, width)), scale)
