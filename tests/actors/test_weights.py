"""Weights of a diffusion model's parts: every tensor is accounted for, or the part is refused."""

from __future__ import annotations

import json
import logging
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import CLIPConfig, CLIPModel

from actors.diffusion.model import DiffusionModel
from actors.errors import ModelError
from tests.families import save_sdxl
from tests.model_folders import Weights, change, edit, poisoned, weights_of

TINY = Path(__file__).parents[1] / "golden" / "tiny_sd"
PARTS = ["unet", "vae", "text_encoder"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(TINY, tmp_path / "sd"))


def networks(folder: Path) -> dict[str, Weights]:
    model = DiffusionModel(str(folder))
    parts = {"unet": model.unet, "vae": model.vae, **{text.part: text.network for text in model.texts}}
    return {part: network.state_dict() for part, network in parts.items()}


def refused(folder: Path, message: str) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        DiffusionModel(str(folder))
    assert str(folder) in str(caught.value)


def same(one: Weights, other: Weights) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_what_is_loaded_is_what_is_stored(folder: Path):
    for part, found in networks(folder).items():
        assert same(found, load_file(weights_of(folder / part)))


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("prefix", ["_orig_mod.", "module."])
def test_a_known_prefix_is_taken_off(folder: Path, part: str, prefix: str, caplog: pytest.LogCaptureFixture):
    wanted = load_file(weights_of(folder / part))
    change(
        weights_of(folder / part), lambda weights: {prefix + name: value for name, value in weights.items()}
    )
    with caplog.at_level(logging.WARNING):
        assert same(networks(folder)[part], wanted)
    assert f"{folder}: {part}: the prefix {prefix} was taken off" in caplog.text


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda name, weights: {key: value for key, value in weights.items() if key != name},
            "lacks 1 weights, such as {}",
        ),
        (
            lambda name, weights: {**weights, "extra.weight": torch.zeros(2)},
            "1 weights that do not belong to it, such as extra",
        ),
        (
            lambda name, weights: {f"ema.{key}": value for key, value in weights.items()},
            "lacks .* it has .* such as ema",
        ),
        (
            lambda name, weights: {**weights, name: weights[name][:-1]},
            "another shape than its config.json says, such as {}",
        ),
        (lambda name, weights: poisoned(weights, name, math.nan), "NaN or infinite weights in {}"),
        (lambda name, weights: poisoned(weights, name, -math.inf), "NaN or infinite weights in {}"),
        (lambda name, weights: {**weights, name: weights[name].to(torch.int64)}, "holds I64 numbers in {}"),
    ],
)
def test_damage(folder: Path, part: str, damage: Callable[[str, Weights], Weights], message: str):
    name = min(load_file(weights_of(folder / part)))
    change(weights_of(folder / part), lambda weights: damage(name, weights))
    refused(folder, f"{part} .*{message.format(name)}|{message.format(name)}")


def test_numbers_beyond_half_precision(folder: Path):
    name = "conv_in.bias"
    change(weights_of(folder / "unet"), lambda weights: poisoned(weights, name, 1e6))
    DiffusionModel(str(folder))
    with pytest.raises(
        ModelError, match=r"NaN or infinite weights in conv_in\.bias: take other weights, or a dtype"
    ):
        DiffusionModel(str(folder), dtype="float16")


def test_the_weights_of_one_part_in_another(folder: Path):
    kept = weights_of(folder / "unet").read_bytes()
    weights_of(folder / "unet").write_bytes(weights_of(folder / "vae").read_bytes())
    refused(folder, "unet lacks .* it has .* weights that do not belong to it")
    weights_of(folder / "unet").write_bytes(kept)
    weights_of(folder / "text_encoder").write_bytes(kept)
    refused(folder, "text_encoder lacks")


def test_names_of_attention_from_before_diffusers_017(folder: Path):
    """The autoencoder of SD 1.5 on the hub still has them."""
    wanted = networks(folder)["vae"]
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}

    def renamed(name: str) -> str:
        for new, before in old.items():
            name = name.replace(f"attentions.0.{new}.", f"attentions.0.{before}.")
        return name

    change(
        weights_of(folder / "vae"), lambda weights: {renamed(name): value for name, value in weights.items()}
    )
    assert any("proj_attn" in name for name in load_file(weights_of(folder / "vae")))
    assert same(networks(folder)["vae"], wanted)


def test_buffers_that_older_versions_saved_do_no_harm(folder: Path):
    wanted = networks(folder)["text_encoder"]
    extra = {"text_model.embeddings.position_ids": torch.arange(77)[None]}
    change(weights_of(folder / "text_encoder"), lambda weights: {**weights, **extra})
    assert same(networks(folder)["text_encoder"], wanted)


def test_a_whole_clip_serves_as_text_encoder(folder: Path):
    """Its text half is loaded, its image half is left out."""
    path = folder / "text_encoder" / "config.json"
    text = json.loads(path.read_text())
    vision = {
        "hidden_size": 8,
        "intermediate_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 1,
        "image_size": 32,
    }
    clip = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=8))
    shutil.rmtree(folder / "text_encoder")
    clip.save_pretrained(folder / "text_encoder")
    assert json.loads(path.read_text())["model_type"] == "clip"
    found = networks(folder)["text_encoder"]
    wanted = clip.text_model.state_dict()
    assert all(torch.equal(found[name.removeprefix("text_model.")], value) for name, value in wanted.items())


def test_the_second_text_encoder_is_checked_as_well(tmp_path: Path):
    folder = save_sdxl(tmp_path / "sdxl")
    change(
        weights_of(folder / "text_encoder_2"),
        lambda weights: {name: value for name, value in weights.items() if name != "text_projection.weight"},
    )
    refused(folder, r"text_encoder_2 lacks 1 weights, such as text_projection\.weight")


@pytest.mark.parametrize(
    ("path", "changes"),
    [
        ("unet/config.json", {"block_out_channels": "320"}),
        ("unet/config.json", {"block_out_channels": []}),
        ("unet/config.json", {"norm_num_groups": 0}),
        ("unet/config.json", {"in_channels": -4}),
        ("unet/config.json", {"down_block_types": ["NoBlock2D"]}),
        ("unet/config.json", {"act_fn": 5}),
        ("unet/config.json", {"cross_attention_dim": None}),
        ("unet/config.json", {"cross_attention_dim": "32"}),
        ("unet/config.json", {"addition_embed_type": ["text_time"]}),
        ("unet/config.json", {"flip_sin_to_cos": [], "freq_shift": "0"}),
        ("vae/config.json", {"scaling_factor": None}),
        ("vae/config.json", {"scaling_factor": "0.18215"}),
        ("vae/config.json", {"scaling_factor": float("nan")}),
        ("vae/config.json", {"scaling_factor": 0}),
        ("vae/config.json", {"layers_per_block": 1.5}),
        ("vae/config.json", {"out_channels": 4}),
        ("vae/config.json", {"in_channels": 1}),
        ("text_encoder/config.json", {"num_hidden_layers": "three"}),
        ("text_encoder/config.json", {"num_attention_heads": 0}),
        ("text_encoder/config.json", {"num_attention_heads": 5}),
        ("text_encoder/config.json", {"max_position_embeddings": None}),
        ("text_encoder/config.json", {"hidden_act": "nonsense"}),
        ("text_encoder/config.json", {"quantization_config": {"quant_method": "gptq"}}),
        ("tokenizer/tokenizer_config.json", {"eos_token": 5}),
        ("tokenizer/tokenizer_config.json", {"eos_token": "not a token"}),
    ],
)
def test_configurations_that_make_no_network(folder: Path, path: str, changes: dict[str, Any]):
    edit(folder / path, **changes)
    with pytest.raises(
        ModelError, match=f"{folder}.*({path.split('/')[0]}|UNet expects|UNet takes|UNet has)"
    ):
        DiffusionModel(str(folder))


def test_an_attention_implementation_of_the_folder_is_not_taken_over(folder: Path):
    """It could name a kernel on the hub, which is code."""
    wanted = networks(folder)["text_encoder"]
    edit(
        folder / "text_encoder" / "config.json",
        _attn_implementation="somebody/kernel",
        attn_implementation="nonsense",
    )
    assert same(networks(folder)["text_encoder"], wanted)


def test_weights_do_not_change_with_their_file(folder: Path):
    model = DiffusionModel(str(folder))
    before = {name: value.clone() for name, value in model.unet.state_dict().items()}
    path = weights_of(folder / "unet")
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        file.write(b"\0" * (path.stat().st_size // 2))
    assert same(model.unet.state_dict(), before)


def test_a_folder_without_any_weights(folder: Path):
    save_file({}, weights_of(folder / "vae"), metadata={"format": "pt"})
    refused(folder, r"vae lacks \d+ weights")


def test_a_second_text_encoder_that_pools_at_another_token(tmp_path: Path):
    folder = save_sdxl(tmp_path / "sdxl")
    edit(folder / "text_encoder_2" / "config.json", eos_token_id=0)
    refused(folder, "text_encoder_2 pools at token 0, the end of its tokenizer's prompts is 513")
    edit(folder / "text_encoder_2" / "config.json", eos_token_id=2)
    DiffusionModel(str(folder))
