"""Loading a Stable Diffusion folder, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from actors.diffusion.model import DiffusionModel
from actors.errors import ModelError
from actors.models import fingerprint, locate

TINY = Path(__file__).parents[2] / "golden" / "tiny_sd"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(TINY, tmp_path / "sd"))


def test_shapes_and_scale():
    model = DiffusionModel(str(TINY), device="cpu")
    images = np.random.default_rng(0).integers(0, 256, (2, 64, 96, 3), dtype=np.uint8)
    latents = model.encode(images)
    assert (
        latents.shape == (2, 4, 64 // model.vae_scale_factor, 96 // model.vae_scale_factor)
        and latents.dtype == torch.float32
    )
    pixels = torch.tensor(images.transpose(0, 3, 1, 2) / np.float32(127.5) - 1)
    posterior = model.vae.encode(pixels).latent_dist
    assert torch.allclose(latents, posterior.mean * model.vae.config.scaling_factor, atol=1e-6)
    assert model.decode(latents).shape == images.shape
    prompts = model.embed(["a cat", ""])
    assert len(prompts) == 2 and prompts.added is None
    assert model.denoise(latents, 181, prompts.embeds).shape == latents.shape


def test_pixels_are_rounded_and_not_cut_off():
    """A decoder that hands its input on, so that every byte comes from a value known here."""
    model = DiffusionModel(str(TINY), device="cpu")
    values = torch.linspace(-1.2, 1.2, 3 * 16 * 16).reshape(1, 3, 16, 16)
    model.vae.decode = lambda latents: SimpleNamespace(sample=latents * model.vae.config.scaling_factor)
    wanted = np.rint((np.clip(values.numpy(), -1, 1).astype(np.float32) + 1) * np.float32(127.5))
    found = model.decode(values)
    assert found.dtype == np.uint8 and found.flags.c_contiguous
    assert np.array_equal(found, wanted.astype(np.uint8).transpose(0, 2, 3, 1))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_one_bad_pixel_is_reported(bad):
    model = DiffusionModel(str(TINY), device="cpu")
    latents = torch.zeros(2, 4, 8, 8)
    latents[1, 2, 3, 4] = bad
    with pytest.raises(
        ModelError, match=r"NaN or infinite pixels; try corruption\.dtype bfloat16 or float32"
    ):
        model.decode(latents)


def test_arrays_that_are_no_images_are_refused():
    model = DiffusionModel(str(TINY), device="cpu")
    for images in (np.zeros((1, 64, 64, 3), np.float32), np.zeros((1, 3, 64, 64), np.uint8)):
        with pytest.raises(ValueError, match=r"they must be uint8 \[B, H, W, 3\]"):
            model.encode(images)


def test_bfloat16_networks_keep_float32_latents():
    model = DiffusionModel(str(TINY), dtype="bfloat16", device="cpu")
    latents = model.encode(np.zeros((1, 64, 64, 3), np.uint8))
    assert latents.dtype == torch.float32
    assert model.denoise(latents, 1, model.embed([""]).embeds).dtype == torch.float32
    assert next(model.unet.parameters()).dtype == torch.bfloat16


def test_sizes_that_do_not_pass_are_refused():
    model = DiffusionModel(str(TINY), device="cpu")
    assert model.smallest_step == 16
    model.check_size(64)
    model.check_size(48, 80)
    with pytest.raises(ModelError, match=r"source\.size is 62; .* multiple of 16 pixels, such as 64"):
        model.check_size(62)
    with pytest.raises(ModelError, match=r"source\.size is 40 x 64; "):
        model.check_size(64, 40)
    with pytest.raises(ModelError, match=r"source\.size is 72 x 64; "):
        model.encode(np.zeros((1, 64, 72, 3), np.uint8))


def test_nan_weights_are_refused(folder: Path):
    path = folder / "unet" / "diffusion_pytorch_model.safetensors"
    weights = load_file(path)
    weights["conv_in.weight"][0, 0, 0, 0] = float("nan")
    save_file(weights, path, metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"unet has NaN or infinite weights in conv_in\.weight"):
        DiffusionModel(str(folder), device="cpu")


def test_missing_weights_are_reported(folder: Path):
    (folder / "vae" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"vae has no diffusion_pytorch_model\.safetensors"):
        DiffusionModel(str(folder), device="cpu")


def test_a_text_encoder_of_another_width_is_reported(folder: Path):
    path = folder / "text_encoder" / "config.json"
    config = json.loads(path.read_text())
    width = config["hidden_size"]
    path.write_text(json.dumps({**config, "hidden_size": 2 * width}))
    with pytest.raises(ModelError, match=f"its text gives width {2 * width}, its UNet expects {width}"):
        DiffusionModel(str(folder), device="cpu")


def test_no_such_model():
    with pytest.raises(ModelError, match="no model at 'nowhere'"):
        locate("nowhere")


def test_a_hub_id_that_is_not_cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ModelError, match="somebody/model at revision 'main' is not in the model cache"):
        fingerprint("somebody/model")


def test_the_fingerprint_of_a_hub_id_is_its_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    refs = tmp_path / "models--somebody--model" / "refs"
    refs.mkdir(parents=True)
    (refs / "main").write_text("abc123\n")
    assert fingerprint("somebody/model") == "somebody/model@abc123"


def test_the_fingerprint_of_a_folder_follows_its_weights(folder: Path):
    before = fingerprint(str(folder))
    (folder / "notes.md").write_text("not part of the model")
    assert fingerprint(str(folder)) == before
    path = folder / "unet" / "config.json"
    path.write_text(path.read_text() + "\n")
    assert fingerprint(str(folder)) != before


def test_a_folder_with_pickles_only_is_refused(tmp_path: Path):
    (tmp_path / "sd").mkdir()
    (tmp_path / "sd" / "unet.bin").write_bytes(b"")
    with pytest.raises(
        ModelError, match=r"has unet\.bin and no safetensors; a pickle is never loaded: convert it"
    ):
        fingerprint(str(tmp_path / "sd"))
