"""Images through a diffusion model: inverted once, then corrupted and resampled as often as wanted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from actors.corruption.methods import corrupt
from actors.diffusion.inversion import ReNoise, invert, resample
from actors.diffusion.memory import memory_errors_explained
from actors.diffusion.model import DiffusionModel, Prompts
from actors.diffusion.schedule import Schedule


@dataclass(frozen=True, eq=False)
class Inverted:
    """Inverted images, which any number of corruptions share: other methods, masks, seeds, and smaller k.

    Attributes:
        at: latents [B, C, h, w] by inversion steps k. 0 is always there, and is the image latent z_0.
        cells: the regions, bool [B, 1, h, w], on the CPU; see `actors.corruption.methods.latent_mask`.
        prompts: what the model is told, one row per image.
        unet_rows: int64 [B], UNet evaluations that the inversion cost.
    """

    at: Mapping[int, Tensor]
    cells: Tensor
    prompts: Prompts
    unet_rows: Tensor

    @property
    def clean(self) -> Tensor:
        """z_0, [B, C, h, w]."""
        return self.at[0]

    def __len__(self) -> int:
        return len(self.cells)

    def __getitem__(self, rows: slice | Tensor | list[int]) -> Inverted:
        """The same rows of everything; a slice shares memory."""
        at = {steps: latents[rows] for steps, latents in self.at.items()}
        return Inverted(at, self.cells[rows], self.prompts[rows], self.unet_rows[rows])

    def with_cells(self, cells: Tensor) -> Inverted:
        """The same images with other regions, bool [B, 1, h, w]."""
        return replace(self, cells=cells)

    def only(self, steps: int) -> Inverted:
        """The same without any other k than 0 and `steps`."""
        return replace(self, at={0: self.clean, steps: self.at[steps]})

    @staticmethod
    def cat(parts: Sequence[Inverted]) -> Inverted:
        """The rows of all parts, which have the same k."""
        return Inverted(
            {steps: torch.cat([part.at[steps] for part in parts]) for steps in parts[0].at},
            torch.cat([part.cells for part in parts]),
            Prompts.cat([part.prompts for part in parts]),
            torch.cat([part.unet_rows for part in parts]),
        )


class Passage:
    """Inversion, corruption and resampling with one model and one schedule (Figure 3 of the paper).

    Args:
        model: encodes, denoises and decodes.
        inference_steps: n, steps of the whole DDIM schedule.
        inversion: how a fixed point is found.
        guidance_scale: classifier-free guidance, in inversion and resampling alike, away from the empty prompt;
            1 is none.
    """

    def __init__(
        self,
        model: DiffusionModel,
        *,
        inference_steps: int = 50,
        inversion: ReNoise = ReNoise(),  # noqa: B008 (frozen)
        guidance_scale: float = 1.0,
    ) -> None:
        self.model = model
        self.inference_steps, self.inversion, self.guidance_scale = inference_steps, inversion, guidance_scale
        self._empty: dict[tuple[int, int], Prompts] = {}

    def empty_prompts(self, count: int, size: tuple[int, int]) -> Prompts:
        """`count` rows of the empty prompt; `size` is (height, width) in pixels. It is embedded once per size."""
        if size not in self._empty:
            self._empty[size] = self.model.embed([""], size)
        return self._empty[size].repeat(count)

    def invert(
        self,
        images: NDArray[np.uint8],
        cells: Tensor,
        steps: Sequence[int],
        *,
        prompts: Prompts | None = None,
        seeds: Sequence[int] | None = None,
    ) -> Inverted:
        """Encodes images and inverts them once, to the deepest of `steps`.

        Args:
            images: uint8 [B, H, W, 3].
            cells: bool [B, 1, h, w], the regions.
            steps: every k that is wanted, 0 to n. With none above 0 the UNet is not asked.
            prompts: one row per image; None is the empty prompt.
            seeds: one per image, which regularised inversion draws from.

        Raises:
            ValueError: a k outside the schedule, or cells that are not those of the images; see also
                `actors.diffusion.inversion.invert`.
            ModelError: images of a size that the model does not take.
        """
        wanted_cells = [len(images), 1, *(side // self.model.cell for side in images.shape[1:3])]
        if cells.dtype != torch.bool or list(cells.shape) != wanted_cells:
            raise ValueError(
                f"the cells are {cells.dtype} {list(cells.shape)}; images {list(images.shape)} need torch.bool "
                f"{wanted_cells}"
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
                    inversion_steps=wanted[-1],
                    method=self.inversion,
                    seeds=seeds,
                    keep_trajectory=len(wanted) > 1,
                    **self._conditions(clean, prompts),
                )
            unet_rows = found.unet_rows
            if found.trajectory is None:
                at[wanted[-1]] = found.latents
            else:
                at |= {k: found.trajectory[:, k].clone() for k in wanted}
        return Inverted(at, cells, prompts, unet_rows)

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
            inference_steps=self.inference_steps,
            inversion_steps=steps if level is None else level,
        )
        return corrupt(
            method,
            latents,
            inverted.clean,
            inverted.cells,
            kept=schedule.kept_after[-1],
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
        return self.model.decode(self.cleaned(latents, prompts, steps))

    def cleaned(self, latents: Tensor, prompts: Prompts, steps: int) -> Tensor:
        """Image latents [B, C, h, w] of latents of a k: `resampled` without the autoencoder."""
        if not steps:
            return latents
        with self._memory("resampling (UNet)", latents):
            return resample(
                self.model.denoise,
                self.model.scheduler,
                latents,
                inversion_steps=steps,
                **self._conditions(latents, prompts),
            )

    def resampling_rows(self, steps: int) -> int:
        """UNet evaluations per sample of resampling from k = `steps`."""
        return steps * (2 if self.guidance_scale > 1 else 1)

    def _memory(self, part: str, latents: Tensor) -> AbstractContextManager[None]:
        height, width = (side * self.model.cell for side in latents.shape[2:])
        return memory_errors_explained(
            part, self.model.device, setting="corruption.batch_size", rows=len(latents), size=(height, width)
        )

    def _conditions(self, latents: Tensor, prompts: Prompts) -> dict[str, Any]:
        """What `invert` and `resample` are told alike."""
        told = {
            "prompt_embeds": prompts.embeds,
            "added_cond_kwargs": prompts.added,
            "inference_steps": self.inference_steps,
            "guidance_scale": self.guidance_scale,
        }
        if self.guidance_scale > 1:
            height, width = (side * self.model.cell for side in latents.shape[2:])
            empty = self.empty_prompts(len(latents), (height, width))
            told |= {"negative_prompt_embeds": empty.embeds, "negative_added_cond_kwargs": empty.added}
        return told
