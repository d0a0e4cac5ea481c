"""Loading a Stable Diffusion folder, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from actors.diffusion import DiffusionModel
from actors.errors import ModelError
from actors.models import fingerprint, locate

TINY = Path(__file__).parents[1] / "golden" / "tiny_sd"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(TINY, tmp_path / "sd"))


def test_shapes_and_scale():
    model = DiffusionModel(str(TINY), device="cpu")
    images = torch.rand(2, 3, 64, 96) * 2 - 1
    latents = model.encode(images)
    assert latents.shape == (2, 4, 64 // model.cell, 96 // model.cell) and latents.dtype == torch.float32
    posterior = model.vae.encode(images).latent_dist
    assert torch.allclose(latents, posterior.mean * model.vae.config.scaling_factor)
    assert model.decode(latents).shape == images.shape
    assert model.embed(["a cat", ""]).shape[0] == 2
    assert model.denoise(latents, 181, model.embed(["", ""])).shape == latents.shape


def test_bfloat16_networks_keep_float32_latents():
    model = DiffusionModel(str(TINY), dtype="bfloat16", device="cpu")
    latents = model.encode(torch.zeros(1, 3, 64, 64))
    assert latents.dtype == torch.float32
    assert model.denoise(latents, 1, model.embed([""])).dtype == torch.float32
    assert next(model.unet.parameters()).dtype == torch.bfloat16


def test_sizes_that_do_not_pass_are_refused():
    with pytest.raises(ModelError, match=r"source\.size is 62; .* multiple of"):
        DiffusionModel(str(TINY), device="cpu").check_size(62)


def test_nan_weights_are_refused(folder: Path):
    path = folder / "unet" / "diffusion_pytorch_model.safetensors"
    weights = load_file(path)
    weights["conv_in.weight"][0, 0, 0, 0] = float("nan")
    save_file(weights, path, metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"unet has NaN or infinite weights in conv_in\.weight"):
        DiffusionModel(str(folder), device="cpu")


def test_missing_weights_are_told(folder: Path):
    (folder / "vae" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(ModelError, match="cannot load"):
        DiffusionModel(str(folder), device="cpu")


def test_a_text_encoder_of_another_width_is_told(folder: Path):
    path = folder / "text_encoder" / "config.json"
    config = json.loads(path.read_text())
    width = config["hidden_size"]
    path.write_text(json.dumps({**config, "hidden_size": 2 * width}))
    with pytest.raises(ModelError, match="cannot load"):
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
    with pytest.raises(ModelError, match=r"unet\.bin is a pickle, which is never loaded: convert it"):
        fingerprint(str(tmp_path / "sd"))
