"""A latent diffusion model in the folder layout of `StableDiffusionPipeline.save_pretrained`."""

from __future__ import annotations

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer
from transformers.utils import logging as transformers_logging

from actors.device import device_for
from actors.errors import ModelError
from actors.models import is_hub_id, locate

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class DiffusionModel:
    """Autoencoder, text encoder, UNet and schedule, on one device, for inference.

    Latents are float32 at every seam; only the networks compute in `dtype`.

    Args:
        model: `tinytown`, a folder, or a hub id that is in the local cache.
        revision: of a hub id.
        dtype: a name in `DTYPES`.
        device: `cpu` or `cuda`.

    Raises:
        ModelError: weights are missing, are not safetensors, hold NaN, or do not fit together.
    """

    def __init__(
        self, model: str, *, revision: str | None = None, dtype: str = "float32", device: str = "cpu"
    ) -> None:
        transformers_logging.disable_progress_bar()
        self.name = model
        self.device = device_for(device)
        self.dtype = DTYPES[dtype]
        place = locate(model, revision)
        offline = {"revision": revision, "local_files_only": True} if is_hub_id(place) else {}
        nets = {"use_safetensors": True, **offline}
        try:
            self.scheduler = DDIMScheduler.from_pretrained(place, subfolder="scheduler", **offline)
            self.tokenizer = CLIPTokenizer.from_pretrained(place, subfolder="tokenizer", **offline)
            self.vae = AutoencoderKL.from_pretrained(place, subfolder="vae", torch_dtype=self.dtype, **nets)
            self.unet = UNet2DConditionModel.from_pretrained(
                place, subfolder="unet", torch_dtype=self.dtype, **nets
            )
            self.text_encoder = CLIPTextModel.from_pretrained(
                place, subfolder="text_encoder", dtype=self.dtype, **nets
            )
        except (OSError, ValueError, RuntimeError) as error:
            raise ModelError(f"cannot load {model} from {place}: {error}") from error
        for net in (self.vae, self.unet, self.text_encoder):
            net.requires_grad_(False).eval().to(self.device)
        self._check()

    @property
    def cell(self) -> int:
        """Pixels per latent cell, along one side."""
        return int(2 ** (len(self.vae.config.block_out_channels) - 1))

    @property
    def smallest_step(self) -> int:
        """Image sides must be a multiple of this many pixels."""
        return self.cell * int(2 ** (len(self.unet.config.block_out_channels) - 1))

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """float32 [B, 3, H, W] in [-1, 1] to scaled latents, float32 [B, C, h, w] (the posterior's mode)."""
        posterior = self.vae.encode(images.to(self.device, self.dtype)).latent_dist
        return posterior.mode().float() * self.vae.config.scaling_factor

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Scaled latents to float32 [B, 3, H, W] in [-1, 1] on the CPU.

        Raises:
            ModelError: the pictures hold NaN, as with half precision that overflows.
        """
        images = self.vae.decode((latents / self.vae.config.scaling_factor).to(self.dtype)).sample.float()
        if not torch.isfinite(images).all():
            raise ModelError(
                f"{self.name} gives NaN or infinite pixels; try corruption.dtype bfloat16 or float32"
            )
        return images.clamp(-1, 1).cpu()

    @torch.no_grad()
    def embed(self, prompts: list[str]) -> Tensor:
        """Text states [B, tokens, width] of prompts; an empty prompt is one."""
        tokens = self.tokenizer(
            prompts,
            padding="max_length",
            max_length=self.tokenizer.model_max_length,
            truncation=True,
            return_tensors="pt",
        )
        return self.text_encoder(tokens.input_ids.to(self.device)).last_hidden_state

    @torch.no_grad()
    def denoise(self, latents: Tensor, timestep: int, prompt_embeds: Tensor) -> Tensor:
        """The noise in `latents` [B, C, h, w] at a timestep, float32."""
        predicted = self.unet(latents.to(self.dtype), timestep, prompt_embeds, return_dict=False)[0]
        return predicted.float()

    def check_size(self, side: int) -> None:
        """Raises ModelError if square images of `side` pixels do not pass through the model."""
        if side % self.smallest_step:
            raise ModelError(
                f"source.size is {side}; {self.name} takes sides that are a multiple of {self.smallest_step} pixels"
            )

    def _check(self) -> None:
        text, wanted = self.text_encoder.config.hidden_size, self.unet.config.cross_attention_dim
        if text != wanted:
            raise ModelError(f"{self.name}: the text encoder gives width {text}, the UNet expects {wanted}")
        latent, channels = self.vae.config.latent_channels, self.unet.config.in_channels
        if latent != channels:
            raise ModelError(
                f"{self.name}: the autoencoder has {latent} latent channels, the UNet expects {channels}"
            )
        for part in ("vae", "unet", "text_encoder"):
            for name, value in getattr(self, part).named_parameters():
                if not torch.isfinite(value).all():
                    raise ModelError(f"{self.name}: {part} has NaN or infinite weights in {name}")
