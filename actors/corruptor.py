"""The corruption pipeline of the paper's Figure 3 on micro-batches: invert, corrupt the region, resample, check."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from actors.batch import Sample
from actors.corruption import METHODS, draw_noise, latent_mask
from actors.diffusion import DiffusionModel
from actors.images import encode_image, encode_mask, read_image, read_mask
from actors.inversion import Inversion, invert, resample
from actors.seeding import seed_for
from actors.verifier import Limits, difference, judge, measure

STAGE = "verify"


@dataclass(frozen=True)
class Settings:
    """How a sample is corrupted.

    Attributes:
        method: a name in `actors.corruption.METHODS`.
        inference_steps, inversion_steps: n and k: the last k of n DDIM steps are inverted and resampled.
        iterations: fixed-point iterations of every inversion step.
        use_caption: prompt with the sample's caption instead of an empty prompt.
        batch_size: rows of every network call, also of the last one, which is padded.
        run_seed: the recipe's seed.
        limits: what the verifier asks; its margin is in pixels.
        attempts: draws per sample before the verifier's verdict stands.
        keep_failures: keep a sample that fails, marked, instead of rejecting it.
    """

    method: str
    inference_steps: int
    inversion_steps: int
    iterations: int
    use_caption: bool
    batch_size: int
    run_seed: int
    limits: Limits
    attempts: int = 1
    keep_failures: bool = False


@dataclass(frozen=True)
class _Decoded:
    images: NDArray[np.uint8]
    masks: NDArray[np.bool_]


class Corruptor:
    """Loads the model once; calls corrupt samples. Decoding and encoding run on threads of their own.

    Args:
        model: see `actors.diffusion.DiffusionModel`.
        settings: what to do.

    Raises:
        ValueError: an unknown method.
    """

    def __init__(self, model: DiffusionModel, settings: Settings) -> None:
        if settings.method not in METHODS:
            raise ValueError(f"no corruption {settings.method!r}; there are {', '.join(METHODS)}")
        self.model = model
        self.settings = settings
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="pixels")
        self._empty_prompt = model.embed([""])

    def __call__(self, samples: Sequence[Sample]) -> list[Sample]:
        """Fills `corrupted`, `changed`, `metrics`, `seed`, `attempts` and `unet_rows`, or rejects.

        Samples must have `image` and `mask` of one size. Rejected ones pass through. Every micro-batch holds
        samples of this call only, in their order, so that a shard's result depends on nothing but the shard.
        """
        alive = [sample for sample in samples if not sample.rejected]
        size = self.settings.batch_size
        groups = [alive[first : first + size] for first in range(0, len(alive), size)]
        finished: list[Future[None]] = []
        for group, decoded in zip(groups, self._ahead(groups), strict=True):
            finished += self._corrupt(group, decoded)
        for work in finished:
            work.result()
        return list(samples)

    def _ahead(self, groups: list[list[Sample]]) -> Iterator[_Decoded]:
        """Decodes the next group while the current one is computed."""
        waiting = [self._threads.submit(_decode, group) for group in groups[:1]]
        for following in [*groups[1:], None]:
            if following is not None:
                waiting.append(self._threads.submit(_decode, following))
            yield waiting.pop(0).result()

    def _corrupt(self, group: list[Sample], decoded: _Decoded) -> list[Future[None]]:
        settings, model = self.settings, self.model
        images = _padded(decoded.images, settings.batch_size)
        masks = torch.from_numpy(_padded(decoded.masks, settings.batch_size))
        prompts = self._prompts(group)
        clean = model.encode(torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1)
        inversion = invert(
            model.denoise,
            model.scheduler,
            clean,
            prompts,
            inference_steps=settings.inference_steps,
            inversion_steps=settings.inversion_steps,
            iterations=settings.iterations,
        )
        baseline = self._pixels(inversion.latents, prompts)
        cells = latent_mask(masks, *clean.shape[-2:]).to(clean.device)
        rows = int(inversion.unet_rows[0]) + settings.inversion_steps
        for sample in group:
            sample.unet_rows += rows
        pending, finished = list(range(len(group))), []
        for attempt in range(settings.attempts):
            corrupted = self._draw(group, pending, attempt, inversion, clean, cells, prompts)
            last = attempt == settings.attempts - 1
            failed = []
            for index in pending:
                sample = group[index]
                sample.unet_rows += settings.inversion_steps
                distance = difference(baseline[index], corrupted[index])
                changed, sample.metrics = measure(distance, decoded.masks[index], settings.limits)
                why = judge(sample.metrics, settings.limits)
                if why is not None and not last:
                    failed.append(index)
                    continue
                sample.attempts = attempt + 1
                sample.verified = why is None
                if why is not None and not settings.keep_failures:
                    sample.reject(STAGE, why)
                finished.append(self._threads.submit(_encode, sample, corrupted[index], changed))
            pending = failed
            if not pending:
                break
        return finished

    def _draw(
        self,
        group: list[Sample],
        pending: list[int],
        attempt: int,
        inversion: Inversion,
        clean: Tensor,
        cells: Tensor,
        prompts: Tensor,
    ) -> NDArray[np.uint8]:
        """One corruption of every pending row, resampled and decoded: uint8 [batch, H, W, 3]."""
        settings = self.settings
        seeds = [0] * settings.batch_size
        for index in pending:
            seeds[index] = seed_for(settings.run_seed, group[index].key, "corrupt", attempt)
            group[index].seed = seeds[index]
        noise = draw_noise(seeds, tuple(clean.shape[1:])).to(clean.device)
        kept = self.model.scheduler.alphas_cumprod[inversion.timesteps[-1]].to(clean.device)
        corrupted = METHODS[settings.method](inversion.latents, clean, cells, kept, noise)
        return self._pixels(corrupted, prompts)

    def _pixels(self, latents: Tensor, prompts: Tensor) -> NDArray[np.uint8]:
        """Resamples and decodes noisy latents: uint8 [B, H, W, 3]."""
        back = resample(
            self.model.denoise,
            self.model.scheduler,
            latents,
            prompts,
            inference_steps=self.settings.inference_steps,
            inversion_steps=self.settings.inversion_steps,
        )
        pixels = self.model.decode(back).add(1).mul(127.5).round().to(torch.uint8)
        return np.ascontiguousarray(pixels.permute(0, 2, 3, 1).numpy())

    def _prompts(self, group: list[Sample]) -> Tensor:
        size = self.settings.batch_size
        if not self.settings.use_caption:
            return self._empty_prompt.expand(size, -1, -1)
        captions = [sample.caption for sample in group]
        return self.model.embed(captions + [""] * (size - len(captions)))


def limits_in_pixels(limits: Limits, model: DiffusionModel) -> Limits:
    """The same limits with the margin, given in latent cells, as pixels of this model."""
    return replace(limits, margin=limits.margin * model.cell)


def _decode(group: Sequence[Sample]) -> _Decoded:
    images, masks = [], []
    for sample in group:
        assert sample.image is not None and sample.mask is not None, sample.key
        images.append(read_image(sample.image))
        masks.append(read_mask(sample.mask))
    return _Decoded(np.stack(images), np.stack(masks))


def _encode(sample: Sample, corrupted: NDArray[np.uint8], changed: NDArray[np.bool_]) -> None:
    sample.corrupted, sample.changed = encode_image(corrupted), encode_mask(changed)


def _padded(rows: NDArray[np.generic], size: int) -> NDArray[np.generic]:
    """The same rows and zeros up to `size`."""
    padded = np.zeros((size, *rows.shape[1:]), rows.dtype)
    padded[: len(rows)] = rows
    return padded
