"""The autoencoder in micro-batches of one shape, and the error where a part runs out of memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from actors.diffusion.memory import memory_errors_explained
from actors.diffusion.model import DiffusionModel
from actors.errors import ModelError
from tests.actors.corruption.test_corruptor import samples
from tests.corruptors import corruptor
from tests.families import save_sdxl
from tinytown.render import render
from tinytown.scene import sample_scene

TINY = Path(__file__).parents[2] / "golden" / "tiny_sd"
IMAGES = np.stack([render(sample_scene(seed)).image for seed in range(5)])


def model(size: int | None, folder: Path = TINY, **more: Any) -> DiffusionModel:
    return DiffusionModel(str(folder), device="cpu", vae_batch_size=size, **more)


def shapes(of: DiffusionModel) -> tuple[list[int], list[int]]:
    """Rows of every call of the encoder and of the decoder, from now on."""
    encoder, decoder = list[int](), list[int]()
    of.vae.encoder.register_forward_hook(lambda _, given, __: encoder.append(len(given[0])))
    of.vae.decoder.register_forward_hook(lambda _, given, __: decoder.append(len(given[0])))
    return encoder, decoder


def test_every_call_of_the_autoencoder_has_one_shape():
    small = model(2)
    encoder, decoder = shapes(small)
    latents = small.encode(IMAGES)
    assert latents.shape == (5, 4, 8, 8) and encoder == [2, 2, 2]
    assert small.decode(latents).shape == IMAGES.shape and decoder == [2, 2, 2]


@pytest.mark.parametrize("family", ["sd", "sdxl"])
def test_a_row_does_not_depend_on_its_company(family: str, tmp_path: Path):
    small = model(2, TINY if family == "sd" else save_sdxl(tmp_path / "xl"), channels_last=True)
    latents = small.encode(IMAGES)
    images = small.decode(latents)
    for row in range(5):
        alone = small.encode(IMAGES[row : row + 1])
        assert torch.equal(alone[0], latents[row])
        assert np.array_equal(small.decode(alone)[0], images[row])


def test_the_size_of_the_batch_is_no_change():
    usual, same, small = model(None), model(5), model(3)
    latents = usual.encode(IMAGES)
    assert torch.equal(same.encode(IMAGES), latents)
    assert np.array_equal(same.decode(latents), usual.decode(latents))
    assert torch.allclose(small.encode(IMAGES), latents, atol=1e-4)
    assert np.abs(small.decode(latents).astype(int) - usual.decode(latents)).max() <= 1


def test_the_corruptor_works_on_micro_batches():
    small = model(2)
    encoder, decoder = shapes(small)
    found = corruptor(small, inversion_steps=1)(samples(1, 2, 3))
    assert all(sample.corrupted for sample in found)
    assert encoder == [2, 2] and decoder == [2] * 4  # one batch of 4 in; 6 rows of two batches of 4 out


class Full(DiffusionModel):
    """Runs out of memory at one part."""

    part = ""

    def _check(self, part: str) -> None:
        if part == self.part:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    def _encode(self, images: torch.Tensor) -> torch.Tensor:
        self._check("encode")
        return super()._encode(images)

    def _decode(self, latents: torch.Tensor) -> torch.Tensor:
        self._check("decode")
        return super()._decode(latents)

    def denoise(self, latents: torch.Tensor, *others: Any, **more: Any) -> torch.Tensor:
        self.calls = getattr(self, "calls", 0) + 1
        self._check("invert" if self.calls <= 2 else "resample")
        return super().denoise(latents, *others, **more)


BATCH = "corruption.batch_size"
VAE = "corruption.vae_batch_size"


@pytest.mark.parametrize(
    ("part", "size", "step", "advice"),
    [
        ("encode", None, f"encoding images (autoencoder) with {VAE} 4", f"set {VAE} to 2 or less"),
        ("decode", None, f"decoding latents (autoencoder) with {VAE} 4", f"set {VAE} to 2 or less"),
        ("decode", 2, f"decoding latents (autoencoder) with {VAE} 2", f"set {VAE} to 1 or less"),
        ("decode", 1, f"decoding latents (autoencoder) with {VAE} 1", "take a smaller source.size"),
        ("invert", 1, f"inverting (UNet) with {BATCH} 4", f"set {BATCH} to 2 or less"),
        ("resample", 1, f"resampling (UNet) with {BATCH} 4", f"set {BATCH} to 2 or less"),
    ],
)
def test_no_memory_names_the_part_and_the_setting_that_helps(part, size, step, advice):
    full = Full(str(TINY), device="cpu", vae_batch_size=size)
    full.part = part
    with pytest.raises(ModelError) as caught:
        corruptor(full, inversion_steps=1)(samples(1))
    assert str(caught.value).startswith(f"out of memory while {step} at 64 x 64 pixels on cpu: {advice}")


def test_the_innermost_part_is_named_and_libraries_are_understood():
    with (
        pytest.raises(ModelError, match=r"^out of memory while loading unet of m on cuda: take a smaller"),
        memory_errors_explained("working", setting=BATCH, rows=8),
        memory_errors_explained("loading unet of m", torch.device("cuda")),
    ):
        raise RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate(handle)")


def test_the_memory_of_the_cpu_counts_where_it_is_asked_for() -> None:
    """A real failure of the CPU's allocator: more bytes than an address space has."""
    with (
        pytest.raises(
            ModelError, match=r"^out of memory while scoring 8 images at 9 x 7 pixels: set --tile$"
        ),
        memory_errors_explained("scoring 8 images", size=(7, 9), advice="set --tile", on_cpu=True),
    ):
        torch.empty(1 << 60, dtype=torch.uint8)
    with pytest.raises(RuntimeError, match="allocate"), memory_errors_explained("scoring 8 images"):
        torch.empty(1 << 60, dtype=torch.uint8)
