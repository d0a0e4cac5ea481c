"""Tiny model folders of every family, with random weights, in the layouts of the real ones on the hub."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

TOKENIZER = Path(__file__).parent / "golden" / "tiny_sd" / "tokenizer"

PNDM = {
    "_class_name": "PNDMScheduler",
    "_diffusers_version": "0.6.0",
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "num_train_timesteps": 1000,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
    "trained_betas": None,
    "clip_sample": False,
}
"""As in stable-diffusion-v1-5."""

V_DDIM = {**PNDM, "_class_name": "DDIMScheduler", "prediction_type": "v_prediction"}
"""As in stable-diffusion-2-1."""

EULER = {
    "_class_name": "EulerDiscreteScheduler",
    "_diffusers_version": "0.19.0.dev0",
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "clip_sample": False,
    "interpolation_type": "linear",
    "num_train_timesteps": 1000,
    "prediction_type": "epsilon",
    "sample_max_value": 1.0,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
    "timestep_spacing": "leading",
    "trained_betas": None,
    "use_karras_sigmas": False,
}
"""As in stable-diffusion-xl-base-1.0."""


def save_sd1(folder: Path) -> Path:
    """A folder like that of SD 1.5: one text encoder, noise prediction, PNDM configuration."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(15)
        text = CLIPTextModel(_text(32, "quick_gelu"))
        parts = {"vae": _vae(0.18215), "unet": _unet(cross_attention_dim=32, attention_head_dim=4)}
    return _save_sd(folder, parts, text, PNDM)


def save_sd2(folder: Path) -> Path:
    """A folder like that of SD 2.1: wider text, linear projections, v prediction."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(21)
        text = CLIPTextModel(_text(48, "gelu"))
        unet = _unet(cross_attention_dim=48, attention_head_dim=[2, 4], use_linear_projection=True)
        parts = {"vae": _vae(0.18215), "unet": unet}
    return _save_sd(folder, parts, text, V_DDIM)


def save_sdxl(folder: Path) -> Path:
    """A folder like that of SDXL base: two text encoders, pooled text, sizes, Euler configuration."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(10)
        first = CLIPTextModel(_text(32, "quick_gelu"))
        second = CLIPTextModelWithProjection(_text(48, "gelu", projection_dim=24))
        unet = _unet(
            cross_attention_dim=80,
            attention_head_dim=[2, 4],
            use_linear_projection=True,
            down_block_types=["DownBlock2D", "CrossAttnDownBlock2D"],
            up_block_types=["CrossAttnUpBlock2D", "UpBlock2D"],
            transformer_layers_per_block=[1, 2],
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=6 * 8 + 24,
        )
        vae = _vae(0.13025)
    StableDiffusionXLPipeline(
        vae=vae,
        text_encoder=first,
        text_encoder_2=second,
        tokenizer=CLIPTokenizer.from_pretrained(TOKENIZER),
        tokenizer_2=CLIPTokenizer.from_pretrained(TOKENIZER, pad_token="!"),
        unet=unet,
        scheduler=DDIMScheduler(),
        force_zeros_for_empty_prompt=True,
        add_watermarker=False,
    ).save_pretrained(folder)
    return _schedule(folder, EULER)


SAVE = {"sd1": save_sd1, "sd2": save_sd2, "sdxl": save_sdxl}


def _text(width: int, activation: str, **more: int) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=514,
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=3,
        num_attention_heads=4,
        max_position_embeddings=77,
        hidden_act=activation,
        bos_token_id=512,
        eos_token_id=513,
        pad_token_id=513,
        **more,
    )


def _unet(**more: Any) -> UNet2DConditionModel:
    shape = {
        "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
        "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"],
    }
    return UNet2DConditionModel(
        sample_size=64,
        block_out_channels=[16, 32],
        layers_per_block=1,
        norm_num_groups=8,
        **{**shape, **more},
    )


def _vae(scaling_factor: float) -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=[8, 8, 16, 16],
        down_block_types=["DownEncoderBlock2D"] * 4,
        up_block_types=["UpDecoderBlock2D"] * 4,
        layers_per_block=1,
        norm_num_groups=4,
        latent_channels=4,
        sample_size=512,
        scaling_factor=scaling_factor,
    )


def _save_sd(folder: Path, parts: dict[str, Any], text: CLIPTextModel, scheduler: dict[str, Any]) -> Path:
    StableDiffusionPipeline(
        **parts,
        text_encoder=text,
        tokenizer=CLIPTokenizer.from_pretrained(TOKENIZER),
        scheduler=DDIMScheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder)
    return _schedule(folder, scheduler)


def _schedule(folder: Path, config: dict[str, Any]) -> Path:
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(config, indent=2))
    return folder
