"""Model folders of Stable Diffusion 1.x, 2.x and XL: what they must hold, and their networks.

Everything that the small files of a folder determine is checked before any weights are read.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from actors.diffusion.prompts import TextEncoder
from actors.diffusion.vocabulary import load_tokenizer
from actors.errors import ModelError
from actors.model_files import SUPPORTED, ModelFolder, is_xl
from actors.models import open_folder
from actors.scheduler_config import ddim_config
from actors.weights import check_depth, check_forward, explained, load_network, usable

TIME_IDS = 6
"""Numbers about an image's size that SDXL's UNet is passed."""

_FOREIGN = ("class_embed_type", "num_class_embeds", "encoder_hid_dim_type", "time_cond_proj_dim")
"""Settings of UNets that require more than text and, in SDXL, pooled text and sizes."""


@dataclass(frozen=True)
class Networks:
    """A latent diffusion model in parts, on the CPU.

    Attributes:
        scheduler: DDIM on the model's noise schedule.
        vae: the autoencoder.
        unet: the denoiser.
        texts: one encoder, two in SDXL.
    """

    scheduler: DDIMScheduler
    vae: AutoencoderKL
    unet: UNet2DConditionModel
    texts: tuple[TextEncoder, ...]


def load(model: str, *, revision: str | None = None, dtype: torch.dtype = torch.float32) -> Networks:
    """Checks a model's folder, then loads its networks. Reads `.safetensors` only.

    A part that has only half-precision files (`*.fp16.safetensors`) is loaded from those. SDXL's autoencoder is
    loaded in float32 whatever `dtype` is if its configuration has `force_upcast`: it overflows in float16.

    Args:
        model: `tinytown`, a folder, or a hub id that is in the local cache.
        revision: of a hub id.
        dtype: of the networks.

    Raises:
        ModelError: a part is missing, has no safetensors, lacks weights, does not fit the others, or the model is of
            a kind that Flawforge does not know.
    """
    folder = open_folder(model, revision, config="unet/config.json")
    unet, vae = folder.config("unet/config.json"), folder.config("vae/config.json")
    xl = is_xl(unet)
    suffixes = ("", "_2") if xl else ("",)
    schedule = folder.config("scheduler/scheduler_config.json")
    texts = [_text_config(folder, f"text_encoder{suffix}") for suffix in suffixes]
    for suffix in suffixes:
        folder.tokenizer_files(f"tokenizer{suffix}")
    _check_kind(model, unet, vae, xl)
    with explained(folder, "unet"):
        _check_fit(model, unet, vae, texts)
    schedule = ddim_config(model, schedule)
    folder.files()
    check_depth(folder, "unet", unet)
    check_depth(folder, "vae", vae)
    _check_shapes(folder, unet, vae, texts)
    upcast = xl and vae.get("force_upcast", True)
    return Networks(
        _scheduler(folder, schedule),
        load_network(AutoencoderKL, vae, folder, "vae", dtype=torch.float32 if upcast else dtype),
        load_network(UNet2DConditionModel, unet, folder, "unet", dtype=dtype),
        tuple(
            _text_encoder(folder, suffix, config, dtype)
            for suffix, config in zip(suffixes, texts, strict=True)
        ),
    )


def _scheduler(folder: ModelFolder, config: Mapping[str, Any]) -> DDIMScheduler:
    with explained(folder, "scheduler"):
        return DDIMScheduler.from_config(dict(config))


def _text_config(folder: ModelFolder, part: str) -> CLIPTextConfig:
    document = folder.config(f"{part}/config.json")
    kind = document.get("model_type")
    if kind not in ("clip_text_model", "clip"):
        raise ModelError(f"{folder.name}: {part} is a {kind!r}, not a CLIP text encoder. {SUPPORTED}")
    if kind == "clip":
        document = document.get("text_config", {})
    with explained(folder, part):
        return CLIPTextConfig.from_dict(usable(folder, part, document))


def _text_encoder(
    folder: ModelFolder, suffix: str, config: CLIPTextConfig, dtype: torch.dtype
) -> TextEncoder:
    part = f"text_encoder{suffix}"
    kind = CLIPTextModelWithProjection if suffix else CLIPTextModel
    # The other half of a whole CLIP, and the projection that the first encoder has no use for.
    unused = r"(vision_model|visual_projection)\.|logit_scale$" + ("" if suffix else r"|text_projection\.")
    tokenizer = load_tokenizer(folder, f"tokenizer{suffix}", rows=config.vocab_size)
    # 2 is what configurations had before transformers 4.31; the pooled state is then that of the largest token.
    if suffix and config.eos_token_id not in (2, tokenizer.eos_token_id):
        raise ModelError(
            f"{folder.name}: {part} pools at token {config.eos_token_id}, the end of its tokenizer's prompts is "
            f"{tokenizer.eos_token_id}: take parts of one model"
        )
    encoder = TextEncoder(
        part, tokenizer, load_network(kind, config, folder, part, dtype=dtype, unused=unused)
    )
    with explained(folder, part):
        states = (1, encoder.length, config.hidden_size)
    check_forward(folder, part, lambda: encoder([""], device=torch.device("cpu")).last_hidden_state, states)
    return encoder


def _check_kind(model: str, unet: Mapping[str, Any], vae: Mapping[str, Any], xl: bool) -> None:
    """Refuses networks whose inputs or outputs differ from Stable Diffusion's."""
    strange = [f"{name} {unet[name]!r}" for name in _FOREIGN if unet.get(name) is not None]
    if not xl and unet.get("addition_embed_type") is not None:
        strange.append(f"addition_embed_type {unet['addition_embed_type']!r}")
    if unet.get("_class_name", "UNet2DConditionModel") != "UNet2DConditionModel":
        strange.append(f"class {unet['_class_name']}")
    if strange:
        raise ModelError(f"{model}: its UNet has {', '.join(strange)}, which is not supported. {SUPPORTED}")
    if vae.get("_class_name", "AutoencoderKL") != "AutoencoderKL":
        raise ModelError(f"{model}: its vae is a {vae['_class_name']}, not an AutoencoderKL. {SUPPORTED}")
    moved = [name for name in ("latents_mean", "latents_std", "shift_factor") if vae.get(name) is not None]
    if moved:
        raise ModelError(
            f"{model}: its vae has {moved[0]}; only latents that are scaled are supported. {SUPPORTED}"
        )


def _check_fit(
    model: str, unet: Mapping[str, Any], vae: Mapping[str, Any], texts: list[CLIPTextConfig]
) -> None:
    """Refuses networks whose widths differ where they meet."""
    width = sum(text.hidden_size for text in texts)
    dims = unet.get("cross_attention_dim", 1280)
    expected = max(dims) if isinstance(dims, list) else dims
    if width != expected:
        raise ModelError(
            f"{model}: its text gives width {width}, its UNet expects {expected}: take parts of one model"
        )
    latent, channels = vae.get("latent_channels", 4), unet.get("in_channels", 4)
    if latent != channels or channels != unet.get("out_channels", 4):
        raise ModelError(
            f"{model}: its autoencoder has {latent} latent channels, its UNet takes {channels} and gives "
            f"{unet.get('out_channels', 4)}; all must be equal. Inpainting and upscaling models are not supported"
        )
    if len(texts) == 2:
        passed = TIME_IDS * unet.get("addition_time_embed_dim", 0) + texts[1].projection_dim
        expected = unet.get("projection_class_embeddings_input_dim")
        if passed != expected:
            raise ModelError(
                f"{model}: its UNet expects {expected} added values; pooled text and {TIME_IDS} sizes are {passed}. An "
                "SDXL refiner is not supported; take the base model"
            )


def _check_shapes(
    folder: ModelFolder, unet: Mapping[str, Any], vae: Mapping[str, Any], texts: list[CLIPTextConfig]
) -> None:
    """Passes the smallest input through UNet and autoencoder without weights: shapes alone, nothing is computed."""
    meta = torch.device("meta")
    with explained(folder, "unet"), meta:
        denoiser = UNet2DConditionModel.from_config(dict(unet))
        side = 2 ** (len(denoiser.config.block_out_channels) - 1)
        latents = torch.zeros(1, denoiser.config.in_channels, side, side)
        states = torch.zeros(1, 1, sum(text.hidden_size for text in texts))
        added = None
        if len(texts) == 2:
            added = {
                "text_embeds": torch.zeros(1, texts[1].projection_dim),
                "time_ids": torch.zeros(1, TIME_IDS),
            }
    check_forward(
        folder,
        "unet",
        lambda: denoiser(latents, torch.zeros(1, device=meta), states, added_cond_kwargs=added).sample,
        tuple(latents.shape),
    )
    with explained(folder, "vae"), meta:
        autoencoder = AutoencoderKL.from_config(dict(vae))
        side = 2 ** (len(autoencoder.config.block_out_channels) - 1)
        factor = autoencoder.config.scaling_factor
        if isinstance(factor, bool) or not (math.isfinite(factor) and factor > 0):
            raise ValueError(f"scaling_factor is {factor!r}")
        image = torch.zeros(1, 3, side, side)
        pixel_latents = torch.zeros(1, denoiser.config.in_channels, 1, 1)
    check_forward(
        folder, "vae", lambda: autoencoder.encode(image).latent_dist.mode(), tuple(pixel_latents.shape)
    )
    check_forward(folder, "vae", lambda: autoencoder.decode(pixel_latents).sample, tuple(image.shape))
