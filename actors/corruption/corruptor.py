"""The corruption pipeline of the paper's Figure 3 on a shard: invert, corrupt the region, resample, check."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from actors.batch import Sample
from actors.corruption.config import CorruptionConfig
from actors.corruption.judge import Judge
from actors.corruption.methods import CHANCE, draw_noise, to_latent_mask
from actors.corruption.retry_policy import Draw, RetryPolicy, Row, deal
from actors.corruption.round_trip import Inverted, RoundTrip
from actors.corruption.verdicts import Case, Verdicts
from actors.corruption.verifier import Verifier
from actors.corruption.verifier_config import VerifierConfig
from actors.diffusion.memory import memory_errors_explained
from actors.diffusion.model import Decoded, DiffusionModel, Prompts
from actors.diffusion.schedule import Schedule
from actors.finite import REASON as NOT_FINITE
from actors.finite import check_model, control_image, finite_rows, not_finite
from actors.images import encode_image, encode_mask, read_image, read_mask
from actors.seeding import seed_for
from actors.stage_names import StageName

THREADS = 4
"""They decode, judge and encode; at 512 pixels that is about 50 ms of CPU time per draw."""

Job = TypeVar("Job")
Result = TypeVar("Result")


def load_model(config: CorruptionConfig, *, device: str = "cpu") -> DiffusionModel:
    """The diffusion model that a configuration names; see `actors.diffusion.model.DiffusionModel`."""
    return DiffusionModel(
        config.model,
        revision=config.revision,
        dtype=config.dtype,
        device=device,
        channels_last=config.channels_last,
        compiled=config.compiled,
        vae_batch_size=config.vae_batch_size,
    )


class Corruptor:
    """Corrupts the samples of a shard. The calling thread runs the model; other threads do everything else.

    Args:
        model: see `load_model`.
        config: how regions are corrupted. Its settings of the model itself are those of `load_model`.
        verifier: what is accepted, and how often a sample is drawn.
        seed: of the run; all random draws follow from it.
        judge: that of `verifier.judge`, if it names one.
        count: called with `invert` or `corrupt` and the number of samples that have finished this step, from any
            thread.

    Raises:
        ModelError: inversion steps that the model's noise schedule does not have.
    """

    def __init__(
        self,
        model: DiffusionModel,
        config: CorruptionConfig,
        verifier: VerifierConfig,
        *,
        seed: int,
        judge: Judge | None = None,
        count: Callable[[str, int], None] = lambda step, items: None,
    ) -> None:
        for steps in (config.inversion_steps, *config.deeper):
            Schedule.of(model.scheduler, inference_steps=config.inference_steps, inversion_steps=steps)
        self.model = model
        self.config = config
        self.seed = seed
        self.count = count
        self.round_trip = RoundTrip(model, config)
        self.verifier = Verifier(verifier, vae_scale_factor=model.vae_scale_factor)
        self._retries = RetryPolicy(config.steps, verifier.attempts if config.method in CHANCE else 1)
        self._by_original = verifier.baseline == "original"
        self._by_autoencoder = not self._by_original and (
            config.target == "image" or verifier.baseline == "autoencoder"
        )
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="pixels")
        self._new_verdicts = partial(
            Verdicts,
            self.verifier,
            self._retries,
            judge,
            self._threads,
            device=model.device,
            one_baseline=self._by_original or self._by_autoencoder,
            seed=self._seed,
            count=lambda: count(StageName.CORRUPT, 1),
        )

    def __call__(self, samples: Sequence[Sample]) -> list[Sample]:
        """Fills the fields of `Sample` that describe a draw, or rejects. The last draw is the result.

        Every batch is dealt from the samples of this call only, by rules that do not depend on time, so that a shard's
        result depends on the shard only.

        Args:
            samples: with `image` and `mask`, all of one size. Rejected ones pass through.

        Raises:
            ValueError: images of different sizes.
            ModelError: a size that the model does not take; no memory for a batch, which is never made smaller; a model
                that gives NaN for whatever it is given (a single such image is rejected as `not_finite`).
        """
        alive = [sample for sample in samples if not sample.rejected]
        if alive:
            height, width = _one_size(alive)
            self.model.check_size(height, width)
            self._corrupt(alive, height, width)
            check_model(
                alive,
                partial(self._control_is_finite, height, width),
                f"{self.model.name} overflows; set corruption.dtype to bfloat16 or float32, or take other weights",
            )
        return list(samples)

    def _corrupt(self, samples: Sequence[Sample], height: int, width: int) -> None:
        rows, size = self.config.batch_size, (height, width)
        setting = "corruption.batch_size"
        with memory_errors_explained("corrupting", self.model.device, setting=setting, rows=rows, size=size):
            cases = list(self._inverted(samples))
            _reject_not_finite(cases, self._retries.first.steps)
            alive = [place for place, case in enumerate(cases) if not case.sample.rejected]
            pending = dict.fromkeys(alive, self._retries.first)
            while pending:
                pending = self._round(cases, pending)

    def _control_is_finite(self, height: int, width: int) -> bool:
        """Whether the model stays finite on a plain image."""
        mask = np.zeros((height, width), bool)
        mask[height // 4 : -height // 4, width // 4 : -width // 4] = True
        image = encode_image(control_image(height, width))
        control = Sample("control", "", image=image, mask=encode_mask(mask))
        self._corrupt([control], height, width)
        return control.reason != NOT_FINITE

    def _inverted(self, samples: Sequence[Sample]) -> Iterator[Case]:
        """Encodes and inverts, batch by batch."""
        config = self.config
        groups = list(_batches(samples, config.batch_size))
        for group, (images, latent_mask) in zip(groups, self._ahead(self._decoded, groups), strict=True):
            inverted = self.round_trip.invert(
                images,
                latent_mask,
                self._retries.steps,
                prompts=self._captions(group, images.shape[1:3]) if config.prompt == "caption" else None,
                seeds=self._inversion_seeds(group) if config.inversion.regularised else None,
            )
            decoded = self.model.decode_rows(inverted.clean) if self._by_autoencoder else None
            first = self._retries.first.steps
            finite = torch.stack([finite_rows(inverted.at[steps]) for steps in (0, first)], 1)
            for row, sample in enumerate(group):
                sample.unet_rows += int(inverted.unet_rows[row])
                case = Case(sample, inverted[row : row + 1], {}, finite[row])
                if self._by_original:
                    case.baselines.update(dict.fromkeys(self._retries.steps, images[row]))
                if decoded is not None:
                    case.baselines.update(dict.fromkeys(self._retries.steps, decoded.images[row]))
                    _check_row(sample, decoded, row, "encoding")
                yield case
            self.count(StageName.INVERT, len(group))

    def _round(self, cases: Sequence[Case], pending: Mapping[int, Draw]) -> dict[int, Draw]:
        """Makes every pending draw, and returns those that follow, by the sample's place."""
        baselines = {(place, steps) for place, case in enumerate(cases) for steps in case.baselines}
        batches = list(deal(pending, baselines, self.config.batch_size))
        noises = self._ahead(partial(self._noise, cases), (rows for _, rows in batches))
        verdicts = self._new_verdicts()
        for (steps, rows), noise in zip(batches, noises, strict=True):
            decoded = self._decoded_rows(cases, rows, steps, noise)
            for place, row in enumerate(rows):
                case, image = cases[row.place], decoded.images[place]
                case.sample.unet_rows += self.round_trip.resampling_rows(steps)
                if case.sample.rejected:
                    continue  # its baseline, just before it, is not finite
                if not _check_row(case.sample, decoded, place, f"resampling from k = {steps}"):
                    case.finish()
                elif row.draw is None:
                    case.baselines[steps] = image
                else:
                    verdicts.add(row.place, case, row.draw, image)
        return verdicts.following()

    def _decoded_rows(self, cases: Sequence[Case], rows: Sequence[Row], steps: int, noise: Tensor) -> Decoded:
        """Draws and uncorrupted round trips of one batch, uint8 [batch_size, H, W, 3]."""
        padded = _padded(rows, self.config.batch_size)
        inverted = Inverted.cat([cases[row.place].inverted.only(steps) for row in padded])
        drawn = torch.tensor([row.draw is not None for row in padded]).reshape(-1, 1, 1, 1)
        latents = self.round_trip.draw(
            inverted.with_mask(inverted.latent_mask & drawn),
            self.config.method,
            steps,
            noise,
            level=steps or self.config.inversion_steps,
        )
        return self.model.decode_rows(self.round_trip.resampled_latents(latents, inverted.prompts, steps))

    def _decoded(self, group: Sequence[Sample]) -> tuple[NDArray[np.uint8], Tensor]:
        """Images uint8 [batch_size, H, W, 3] and latent mask bool [batch_size, 1, h, w]."""
        images, masks = [], []
        for sample in group:
            assert sample.image is not None and sample.mask is not None
            images.append(read_image(sample.image))
            masks.append(read_mask(sample.mask))
        size, factor = self.config.batch_size, self.model.vae_scale_factor
        height, width = masks[0].shape
        regions = torch.from_numpy(np.stack(_padded(masks, size)))
        return np.stack(_padded(images, size)), to_latent_mask(regions, height // factor, width // factor)

    def _noise(self, cases: Sequence[Case], rows: Sequence[Row]) -> Tensor:
        """Noise [batch_size, C, h, w] of the draws among the rows; zeros elsewhere."""
        noise = torch.zeros(self.config.batch_size, *cases[0].inverted.clean.shape[1:])
        seeds = {
            index: self._seed(cases[row.place].sample, row.draw)
            for index, row in enumerate(rows)
            if row.draw is not None
        }
        if seeds:
            noise[list(seeds)] = draw_noise(list(seeds.values()), tuple(noise.shape[1:]))
        return noise

    def _inversion_seeds(self, group: Sequence[Sample]) -> list[int]:
        seeds = [seed_for(self.seed, sample.key, "invert") for sample in group]
        return _padded(seeds, self.config.batch_size)

    def _seed(self, sample: Sample, draw: Draw) -> int:
        return seed_for(self.seed, sample.key, "corrupt", draw.number)

    def _captions(self, group: Sequence[Sample], size: tuple[int, ...]) -> Prompts:
        captions = [sample.caption for sample in _padded(group, self.config.batch_size)]
        return self.model.embed(captions, (size[0], size[1]))

    def _ahead(self, work: Callable[[Job], Result], jobs: Iterable[Job]) -> Iterator[Result]:
        """Results in order; a thread works on the next job while a result is used."""
        following: Future[Result] | None = None
        for job in jobs:
            current, following = following, self._threads.submit(work, job)
            if current is not None:
                yield current.result()
        if following is not None:
            yield following.result()


def _reject_not_finite(cases: Sequence[Case], steps: int) -> None:
    """Rejects what is not finite before anything is drawn, with one copy from the device."""
    for case, (encoded, inverted) in zip(
        cases, torch.stack([case.finite for case in cases]).tolist(), strict=True
    ):
        if not encoded:
            case.sample.reject(StageName.CORRUPT, not_finite("the latents after encoding"))
        elif not inverted:
            case.sample.reject(StageName.CORRUPT, not_finite(f"the latents after inversion to k = {steps}"))
        if case.sample.rejected:
            case.finish()


def _check_row(sample: Sample, decoded: Decoded, row: int, step: str) -> bool:
    """Whether a decoded row is finite; its sample is rejected where it is not."""
    if decoded.finite[row] and decoded.latents_finite[row]:
        return True
    what = "pixels decoded" if decoded.latents_finite[row] else "latents"
    sample.reject(StageName.CORRUPT, not_finite(f"the {what} after {step}"))
    sample.metrics = {}  # of an earlier draw
    return False


def _one_size(samples: Sequence[Sample]) -> tuple[int, int]:
    """Height and width of all images, from their headers.

    Raises:
        ValueError: they differ.
    """
    first = None
    for sample in samples:
        assert sample.image is not None and sample.mask is not None, sample.key
        image, mask = _size(sample.image), _size(sample.mask)
        first = first or (sample.key, image)
        if mask != image:
            raise ValueError(f"{sample.key}: the mask is {_by(mask)} pixels, the image {_by(image)}")
        if image != first[1]:
            raise ValueError(
                f"{sample.key} is {_by(image)} pixels, {first[0]} {_by(first[1])}; a shard has one size"
            )
    assert first is not None
    return first[1][1], first[1][0]


def _size(data: bytes) -> tuple[int, int]:
    with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
        return image.size


def _by(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]}"


def _batches(items: Sequence[Job], size: int) -> Iterator[Sequence[Job]]:
    return (items[first : first + size] for first in range(0, len(items), size))


def _padded(rows: Sequence[Job], size: int) -> list[Job]:
    """The rows, and the last one again up to `size`."""
    return [*rows, *[rows[-1]] * (size - len(rows))]
