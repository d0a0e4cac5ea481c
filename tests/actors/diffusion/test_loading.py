"""Stable Diffusion 1.x, 2.x and XL: what diffusers makes of the same folders, and what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    EulerDiscreteScheduler,
    StableDiffusionImg2ImgPipeline,
    StableDiffusionXLImg2ImgPipeline,
    UNet2DConditionModel,
)
from safetensors.torch import load_file, save_file

from actors.diffusion.conditioning import Conditioning
from actors.diffusion.inversion import resample
from actors.diffusion.model import DiffusionModel
from actors.errors import ModelError
from tests.families import EULER, PNDM, SAVE

PIPELINES = {
    "sd1": StableDiffusionImg2ImgPipeline,
    "sd2": StableDiffusionImg2ImgPipeline,
    "sdxl": StableDiffusionXLImg2ImgPipeline,
}
PROMPTS = ["a red cat", "two dogs on a green hill under a very blue sky"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("families")
    return {name: save(root / name) for name, save in SAVE.items()}


@pytest.fixture(scope="module")
def models(folders: dict[str, Path]) -> dict[str, DiffusionModel]:
    return {name: DiffusionModel(str(folder)) for name, folder in folders.items()}


@pytest.fixture
def copy(folders: dict[str, Path], tmp_path: Path) -> Callable[[str], Path]:
    return lambda name: Path(shutil.copytree(folders[name], tmp_path / name))


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def refused(folder: Path, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        DiffusionModel(str(folder))


@pytest.mark.parametrize("name", SAVE)
@pytest.mark.parametrize("size", [(512, 512), (256, 384)])
def test_pixels_to_latents_to_noise_to_pixels(models, name, size):
    model = models[name]
    images = np.random.default_rng(0).integers(0, 256, (1, *size, 3), dtype=np.uint8)
    latents = model.encode(images)
    assert latents.shape == (1, model.latent_channels, size[0] // 8, size[1] // 8)
    prompts = model.embed([""], size)
    noise = model.denoise(latents, 181, prompts.embeds, added_cond_kwargs=prompts.added)
    assert noise.shape == latents.shape and noise.dtype == torch.float32
    pixels = model.decode(latents)
    assert pixels.shape == images.shape and pixels.dtype == np.uint8


@pytest.mark.parametrize("name", SAVE)
@pytest.mark.parametrize("guidance", [1.0, 3.0])
@pytest.mark.parametrize("shape", [(16, 16), (12, 20)])
def test_sampling_equals_the_pipelines_of_diffusers(folders, models, name, guidance, shape):
    model, steps, k = models[name], 50, 10
    latents = torch.randn((2, 4, *shape), generator=torch.Generator().manual_seed(1))
    pipeline = PIPELINES[name].from_pretrained(
        folders[name],
        scheduler=DDIMScheduler.from_pretrained(folders[name], subfolder="scheduler"),
    )
    pipeline.set_progress_bar_config(disable=True)
    theirs = pipeline(
        prompt=PROMPTS,
        negative_prompt=["", ""],
        image=latents,
        strength=k / steps,
        num_inference_steps=steps,
        guidance_scale=guidance,
        generator=torch.Generator().manual_seed(7),
        output_type="latent",
    ).images
    size = (shape[0] * 8, shape[1] * 8)
    prompts, empty = model.embed(PROMPTS, size), model.embed(["", ""], size)
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(7))
    ours = resample(
        model.denoise,
        model.scheduler,
        model.scheduler.add_noise(latents, noise, torch.tensor(181)),
        Conditioning(prompts, empty, guidance),
        inference_steps=steps,
        inversion_steps=k,
    )
    assert (ours - latents).abs().max() > 0.1, "something was sampled"
    assert torch.allclose(ours, theirs, rtol=0, atol=1e-5)


def test_conditioning_of_sdxl_equals_the_pipeline(folders, models):
    pipeline = StableDiffusionXLImg2ImgPipeline.from_pretrained(folders["sdxl"])
    ours = models["sdxl"].embed(PROMPTS, (64, 96))
    embeds, negative, pooled, negative_pooled = pipeline.encode_prompt(PROMPTS)
    assert torch.equal(ours.embeds, embeds) and torch.equal(ours.added["text_embeds"], pooled)
    assert ours.added["time_ids"].tolist() == [[64, 96, 0, 0, 64, 96]] * 2
    # Without a negative prompt the pipeline takes zeros, which is not what an empty prompt gives.
    assert not negative.any() and not negative_pooled.any()
    assert models["sdxl"].embed([""], (64, 96)).embeds.abs().max() > 0.1


def test_sdxl_is_passed_the_size(models):
    with pytest.raises(ValueError, match=r"give size=\(height, width\)"):
        models["sdxl"].embed([""])


def test_sizes_matter_to_sdxl(models):
    model, latents = models["sdxl"], torch.zeros(1, 4, 8, 8)
    small, large = (model.embed(["a cat"], size) for size in ((64, 64), (1024, 1024)))
    noises = [model.denoise(latents, 1, one.embeds, added_cond_kwargs=one.added) for one in (small, large)]
    assert not torch.allclose(*noises)


def test_prompts_are_cut_joined_and_repeated(models):
    model = models["sdxl"]
    both = model.embed(PROMPTS, (64, 96))
    assert len(both) == 2
    again = type(both).cat([both[1:], both[[0]]])
    assert torch.equal(again.embeds, both.embeds.flip(0))
    assert torch.equal(again.added["text_embeds"], both.added["text_embeds"].flip(0))
    repeated = both[torch.tensor([False, True])].repeat(3)
    assert repeated.added["time_ids"].shape == (3, 6)
    assert all(torch.equal(row, both.embeds[1]) for row in repeated.embeds)
    with pytest.raises(ValueError, match="there are 2 rows"):
        both.repeat(2)
    with pytest.raises(ValueError, match="2 parts of 2 families"):
        type(both).cat([both, models["sd1"].embed([""])])


def test_half_precision_and_the_autoencoder_of_sdxl(folders, copy):
    precise = DiffusionModel(str(folders["sdxl"]), dtype="bfloat16")
    assert precise.vae.dtype == torch.float32 and precise.unet.dtype == torch.bfloat16
    folder = copy("sdxl")
    edit(folder / "vae" / "config.json", force_upcast=False)
    assert DiffusionModel(str(folder), dtype="bfloat16").vae.dtype == torch.bfloat16
    assert DiffusionModel(str(folders["sd1"]), dtype="bfloat16").vae.dtype == torch.bfloat16
    prompts, latents = precise.embed([""], (64, 64)), precise.encode(np.zeros((1, 64, 64, 3), np.uint8))
    noise = precise.denoise(latents, 1, prompts.embeds, added_cond_kwargs=prompts.added)
    assert (latents.dtype, noise.dtype) == (torch.float32, torch.float32)
    assert precise.decode(latents).shape == (1, 64, 64, 3)


@pytest.mark.parametrize("name", ["sd1", "sdxl"])
def test_channels_last_changes_the_layout_only(folders, models, name):
    wide, usual = DiffusionModel(str(folders[name]), channels_last=True), models[name]
    assert wide.unet.conv_in.weight.is_contiguous(memory_format=torch.channels_last)
    assert wide.vae.encoder.conv_in.weight.is_contiguous(memory_format=torch.channels_last)
    images = np.random.default_rng(1).integers(0, 256, (2, 64, 96, 3), dtype=np.uint8)
    latents, prompts = usual.encode(images), usual.embed(PROMPTS, (64, 96))
    assert torch.allclose(wide.encode(images), latents, atol=1e-4)
    found, wanted = (
        model.denoise(latents, 181, prompts.embeds, added_cond_kwargs=prompts.added)
        for model in (wide, usual)
    )
    assert torch.allclose(found, wanted, atol=1e-4)
    assert np.abs(wide.decode(latents).astype(int) - usual.decode(latents)).max() <= 1


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="compiling for a CPU takes a C++ compiler")
def test_a_compiled_model_is_compiled_once_for_all_timesteps(folders, models):
    compiled, usual = DiffusionModel(str(folders["sdxl"]), compiled=True), models["sdxl"]
    latents = torch.randn((2, 4, 8, 8), generator=torch.Generator().manual_seed(1))
    prompts = usual.embed(PROMPTS, (64, 64))
    torch._dynamo.utils.counters.clear()
    for timestep in range(1, 401, 20):
        found, wanted = (
            model.denoise(latents, timestep, prompts.embeds, added_cond_kwargs=prompts.added)
            for model in (compiled, usual)
        )
        assert torch.allclose(found, wanted, atol=1e-4)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1


def test_kernels_are_not_chosen_by_timing(folders, monkeypatch):
    """On a GPU, Inductor would time several reductions and keep the fastest; the order of their sums differs."""
    from torch._inductor import config

    given = []
    monkeypatch.setattr(UNet2DConditionModel, "compile", lambda unet, **options: given.append(options))
    DiffusionModel(str(folders["sd1"]), compiled=True)
    assert given == [{"dynamic": False, "fullgraph": True, "options": {"deterministic": True}}]
    assert config.deterministic is False  # the option is the UNet's alone, and known to this torch
    monkeypatch.delattr(config, "deterministic")
    with pytest.raises(
        ModelError, match=r"cannot compile deterministically: .* corruption\.compiled to false"
    ):
        DiffusionModel(str(folders["sd1"]), compiled=True)


@pytest.mark.parametrize("name", SAVE)
def test_every_scheduler_configuration_gives_the_schedule_of_stable_diffusion(models, name):
    scheduler = models[name].scheduler
    assert isinstance(scheduler, DDIMScheduler)
    scheduler.set_timesteps(50)
    assert scheduler.timesteps.tolist() == list(range(981, 0, -20))
    expected = np.cumprod(1 - np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2)
    assert np.allclose(scheduler.alphas_cumprod, expected, rtol=1e-5)
    assert scheduler.final_alpha_cumprod == scheduler.alphas_cumprod[0]
    assert scheduler.config.prediction_type == ("v_prediction" if name == "sd2" else "epsilon")
    assert not scheduler.config.clip_sample


def test_what_a_scheduler_configuration_lacks_is_as_in_stable_diffusion(copy):
    folder = copy("sd1")
    kept = ("_class_name", "beta_end", "beta_schedule", "beta_start", "num_train_timesteps")
    path = folder / "scheduler" / "scheduler_config.json"
    path.write_text(json.dumps({name: PNDM[name] for name in kept}))
    scheduler = DiffusionModel(str(folder)).scheduler
    scheduler.set_timesteps(50)
    assert scheduler.timesteps.tolist() == list(range(981, 0, -20))
    assert scheduler.final_alpha_cumprod == scheduler.alphas_cumprod[0]
    assert not scheduler.config.clip_sample


def test_the_default_spacing_of_euler_is_not_taken_over(copy):
    folder = copy("sdxl")
    betas = {name: EULER[name] for name in ("beta_end", "beta_schedule", "beta_start")}
    EulerDiscreteScheduler(**betas).save_pretrained(folder / "scheduler")
    config = json.loads((folder / "scheduler" / "scheduler_config.json").read_text())
    assert (config["timestep_spacing"], config["steps_offset"]) == ("linspace", 0)
    scheduler = DiffusionModel(str(folder)).scheduler
    scheduler.set_timesteps(50)
    assert scheduler.timesteps.tolist() == list(range(981, 0, -20))


@pytest.mark.parametrize("part", ["vae", "text_encoder", "text_encoder_2"])
def test_half_precision_files_serve_where_there_are_no_others(copy, part):
    folder = copy("sdxl")
    (path,) = (folder / part).glob("*.safetensors")
    weights = {name: value.half() for name, value in load_file(path).items()}
    save_file(weights, path.with_suffix(".fp16.safetensors"), metadata={"format": "pt"})
    (path.with_name("pytorch_model.bin")).write_bytes(b"never read")
    path.unlink()
    model = DiffusionModel(str(folder))
    networks = {"vae": model.vae, **{text.part: text.network for text in model.texts}}
    found = networks[part].state_dict()
    assert all(torch.equal(found[name], value.float()) for name, value in weights.items())


def test_plain_files_come_first(copy, models):
    folder = copy("sd1")
    path = folder / "unet" / "diffusion_pytorch_model.safetensors"
    zeros = {name: torch.zeros_like(value).half() for name, value in load_file(path).items()}
    save_file(zeros, path.with_suffix(".fp16.safetensors"), metadata={"format": "pt"})
    model = DiffusionModel(str(folder))
    assert torch.equal(model.unet.conv_in.weight, models["sd1"].unet.conv_in.weight)


def test_a_hub_id_in_the_cache(folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    repository = tmp_path / "models--somebody--model"
    shutil.copytree(folders["sd2"], repository / "snapshots" / "abc123")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc123")
    model = DiffusionModel("somebody/model")
    assert model.name == "somebody/model" and model.scheduler.config.prediction_type == "v_prediction"
    DiffusionModel("somebody/model", revision="abc123")
    with pytest.raises(
        ModelError, match=r"no UNet of somebody/model at revision 'v2': run `hf download som.* --rev"
    ):
        DiffusionModel("somebody/model", revision="v2")
    (repository / "snapshots" / "abc123" / "vae" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(
        ModelError, match=r"vae has no diffusion_pytorch_model\.safetensors .* run `hf download"
    ):
        DiffusionModel("somebody/model")


@pytest.mark.parametrize(
    "path",
    [
        "unet/config.json",
        "vae/config.json",
        "scheduler/scheduler_config.json",
        "tokenizer/tokenizer_config.json",
        "tokenizer_2/tokenizer_config.json",
        "text_encoder/config.json",
        "text_encoder_2/config.json",
    ],
)
def test_a_missing_part_is_reported(copy, path):
    folder = copy("sdxl")
    shutil.rmtree((folder / path).parent)
    refused(
        folder, rf"sdxl, a StableDiffusionXLPipeline, has no {path} under .* save or download it again, whole"
    )


def test_a_tokenizer_without_words_is_reported(copy):
    folder = copy("sd1")
    (folder / "tokenizer" / "tokenizer.json").unlink()
    refused(folder, r"tokenizer has neither tokenizer\.json nor vocab\.json")


def test_another_kind_of_pipeline_is_reported(tmp_path: Path):
    folder = tmp_path / "flux"
    folder.mkdir()
    (folder / "model_index.json").write_text('{"_class_name": "FluxPipeline"}')
    refused(
        folder,
        r"a FluxPipeline, has no unet/config\.json .* takes folders of Stable Diffusion 1\.x, 2\.x and XL",
    )


def test_pickles_are_reported_and_never_read(copy):
    folder = copy("sd1")
    path = folder / "unet" / "diffusion_pytorch_model.safetensors"
    path.rename(path.with_suffix(".bin"))
    refused(
        folder, r"unet has diffusion_pytorch_model\.bin and no safetensors; a pickle is never loaded: convert"
    )


def test_weights_that_are_not_in_the_file_are_reported(copy):
    folder = copy("sd1")
    for part, name in (("unet", "conv_out.bias"), ("text_encoder", None)):
        (path,) = (folder / part).glob("*.safetensors")
        weights = load_file(path)
        gone = name or next(key for key in weights if "final_layer_norm.bias" in key)
        save_file(
            {key: value for key, value in weights.items() if key != gone}, path, metadata={"format": "pt"}
        )
        refused(folder, rf"{part} lacks 1 weights, such as .*{gone.split('.')[-2]}")
        save_file(weights, path, metadata={"format": "pt"})
    DiffusionModel(str(folder))


@pytest.mark.parametrize(
    ("name", "path", "changes", "message"),
    [
        ("sd1", "text_encoder/config.json", {"hidden_size": 64}, "text gives width 64, its UNet expects 32"),
        (
            "sdxl",
            "text_encoder_2/config.json",
            {"hidden_size": 32},
            "text gives width 64, its UNet expects 80",
        ),
        ("sd1", "text_encoder/config.json", {"model_type": "t5"}, "text_encoder is a 't5', not a CLIP text"),
        (
            "sd1",
            "vae/config.json",
            {"latent_channels": 16},
            "16 latent channels, its UNet takes 4 and gives 4",
        ),
        ("sd1", "unet/config.json", {"in_channels": 9}, "4 latent channels, its UNet takes 9 .* Inpainting"),
        ("sd1", "vae/config.json", {"latents_mean": [0.0] * 4}, "its vae has latents_mean"),
        ("sd1", "vae/config.json", {"_class_name": "AutoencoderTiny"}, "vae is a AutoencoderTiny"),
        ("sd1", "unet/config.json", {"addition_embed_type": "image"}, "addition_embed_type 'image'"),
        (
            "sd1",
            "unet/config.json",
            {"num_class_embeds": 1000},
            "num_class_embeds 1000, which is not supported",
        ),
        ("sd1", "unet/config.json", {"time_cond_proj_dim": 256}, "time_cond_proj_dim 256"),
        ("sd1", "unet/config.json", {"_class_name": "UNetMotionModel"}, "class UNetMotionModel"),
        (
            "sdxl",
            "unet/config.json",
            {"projection_class_embeddings_input_dim": 64},
            "64 added values; .* are 72",
        ),
        (
            "sd1",
            "scheduler/scheduler_config.json",
            {"prediction_type": "sample"},
            "scheduler predicts 'sample'",
        ),
        (
            "sd1",
            "scheduler/scheduler_config.json",
            {"beta_schedule": None},
            "beta_schedule None; known: linear",
        ),
    ],
)
def test_what_does_not_fit_is_refused_before_weights_are_read(copy, name, path, changes, message):
    folder = copy(name)
    edit(folder / path, **changes)
    for weights in folder.rglob("*.safetensors"):
        weights.write_bytes(b"not weights")
    refused(folder, message)


def test_weights_that_are_no_weights_are_reported(copy):
    folder = copy("sd1")
    (folder / "vae" / "diffusion_pytorch_model.safetensors").write_bytes(b"not weights")
    refused(folder, r"sd1/vae/diffusion_pytorch_model\.safetensors is cut off or is not a safetensors file")


def test_a_broken_configuration_is_reported(copy):
    folder = copy("sd1")
    (folder / "unet" / "config.json").write_text("{")
    refused(folder, r"unet/config\.json is not JSON .*: save or download it again")
