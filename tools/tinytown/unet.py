"""Trains tinytown's UNet and text encoder over a trained autoencoder.

`python -m tools.tinytown.unet --out DIR` resumes where it was stopped.

Noise prediction on the schedule of Stable Diffusion 1.5, min-SNR weighting (Hang et al. 2023) with more weight on
strong noise, where the caption decides; 10 % of captions are dropped, since corruption runs with an empty prompt.
The result, `DIR/sd`, is a plain Stable Diffusion folder.
"""

from __future__ import annotations

import argparse
import copy
import logging
import math
import time
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from actors.models import fingerprint
from tools.tinytown.data import renders
from tools.tinytown.state import load_state, save_state
from tools.tinytown.text import MAX_TOKENS, build_text_encoder, build_tokenizer, pretrain
from tools.tinytown.vae import TRAIN_SCENES, tensor

log = logging.getLogger(__name__)

BATCH = 48
LEARNING_RATE = 6e-4
EMA = 0.999
DROPPED_CAPTIONS = 0.1
SNR_CAP = 5.0
NOISE_CAP = 8.0


def build_unet() -> UNet2DConditionModel:
    """The untrained noise predictor for latents [B, 4, 16, 16] and text states [B, tokens, 128]."""
    return UNet2DConditionModel(
        sample_size=16,
        in_channels=4,
        out_channels=4,
        block_out_channels=(64, 96, 144),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=128,
        attention_head_dim=4,
        norm_num_groups=16,
    )


def build_scheduler() -> DDIMScheduler:
    """The schedule of Stable Diffusion 1.5."""
    return DDIMScheduler(
        num_train_timesteps=1000,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        steps_offset=1,
        set_alpha_to_one=False,
        clip_sample=False,
        prediction_type="epsilon",
    )


def train(out: Path, steps: int, seed: int, text_steps: int) -> None:
    """Trains up to `steps` steps in all from `out/vae`; `out/sd-SEED` is written anew at every save."""
    torch.manual_seed(seed)
    vae = AutoencoderKL.from_pretrained(out / "vae").eval()
    tokenizer = build_tokenizer()
    latents, tokens = _dataset(out, vae, tokenizer)
    empty = torch.tensor(_tokens(tokenizer, [""])[0])
    text = build_text_encoder(tokenizer)
    state = out / f"unet-state-{seed}"
    if not (state / "state.safetensors").exists():
        pretrain(text, latents, tokens, text_steps, seed)
    live = torch.nn.ModuleDict({"unet": build_unet(), "text": text})
    models = torch.nn.ModuleDict({"live": live, "ema": copy.deepcopy(live).requires_grad_(False)})
    optimizer = torch.optim.AdamW(live.parameters(), lr=LEARNING_RATE, weight_decay=1e-2)
    start = load_state(state, models, optimizer)
    alphas_cumprod = build_scheduler().alphas_cumprod
    began, losses = time.monotonic(), []
    for step in range(start, steps):
        for group in optimizer.param_groups:
            group["lr"] = _rate(step, steps)
        generator = torch.Generator().manual_seed(seed * 10_000_000 + step)
        rows = torch.randint(len(latents), (BATCH,), generator=generator)
        prompt = tokens[rows]
        dropped = torch.rand(BATCH, generator=generator) < DROPPED_CAPTIONS
        prompt = torch.where(dropped[:, None], empty, prompt)
        loss = _loss(live, latents[rows].float(), prompt, alphas_cumprod, generator)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(live.parameters(), 1.0)
        optimizer.step()
        decay = min(EMA, (1 + step) / (10 + step))
        with torch.no_grad():
            for average, value in zip(models["ema"].parameters(), live.parameters(), strict=True):
                average.lerp_(value, 1 - decay)
        losses.append(loss.item())
        if step % 100 == 99:
            speed = (step + 1 - start) / (time.monotonic() - began)
            log.info("step %d loss %.4f %.2f steps/s", step + 1, np.mean(losses[-100:]), speed)
        if step % 500 == 499:
            save_state(state, models, optimizer)
            write_pipeline(out / f"sd-{seed}", vae, models["ema"], tokenizer)
    save_state(state, models, optimizer)
    write_pipeline(out / f"sd-{seed}", vae, models["ema"], tokenizer)


def write_pipeline(
    folder: Path, vae: AutoencoderKL, nets: torch.nn.ModuleDict, tokenizer: CLIPTokenizer
) -> None:
    """Writes a Stable Diffusion folder in fp16."""
    unet, text = copy.deepcopy(nets["unet"]), copy.deepcopy(nets["text"])
    assert isinstance(unet, UNet2DConditionModel) and isinstance(text, CLIPTextModel)
    StableDiffusionPipeline(
        vae=copy.deepcopy(vae).half(),
        text_encoder=text.half(),
        tokenizer=tokenizer,
        unet=unet.half(),
        scheduler=build_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder)


def _loss(
    live: torch.nn.ModuleDict,
    latents: Tensor,
    prompt: Tensor,
    alphas_cumprod: Tensor,
    generator: torch.Generator,
) -> Tensor:
    timesteps = torch.randint(1000, (len(latents),), generator=generator)
    noise = torch.randn(latents.shape, generator=generator)
    alpha_prod = alphas_cumprod[timesteps]
    noisy = (
        alpha_prod.sqrt()[:, None, None, None] * latents
        + (1 - alpha_prod).sqrt()[:, None, None, None] * noise
    )
    with torch.autocast("cpu", torch.bfloat16):
        states = live["text"](prompt).last_hidden_state
        predicted = live["unet"](noisy, timesteps, states).sample
    ratio = alpha_prod / (1 - alpha_prod)
    weight = torch.clamp(SNR_CAP / ratio, max=1.0) * torch.clamp(1 / alpha_prod, max=NOISE_CAP)
    return ((predicted.float() - noise).square().mean((1, 2, 3)) * weight).mean()


def _rate(step: int, steps: int) -> float:
    """Constant after a short warm-up, then a cosine to zero over the second half."""
    decay = max(0.0, (step / steps - 0.5) / 0.5)
    return LEARNING_RATE * min(1.0, (step + 1) / 200) * (0.5 + 0.5 * math.cos(math.pi * decay))


def _dataset(out: Path, vae: AutoencoderKL, tokenizer: CLIPTokenizer) -> tuple[Tensor, Tensor]:
    """Scaled latents, float16 [N, 4, 16, 16], and tokens, int64 [N, MAX_TOKENS]."""
    path = out / "data" / f"latents-{fingerprint(str(out / 'vae')).split('@')[1]}.safetensors"
    data = renders(0, TRAIN_SCENES, cache=out / "data")
    if not path.exists():
        rows = []
        with torch.no_grad():
            for first in range(0, len(data.images), 64):
                posterior = vae.encode(tensor(data.images[first : first + 64])).latent_dist
                rows.append((posterior.mode() * vae.config.scaling_factor).half())
        save_file({"latents": torch.cat(rows).contiguous()}, path)
    return load_file(path)["latents"], torch.tensor(_tokens(tokenizer, data.captions))


def _tokens(tokenizer: CLIPTokenizer, texts: list[str]) -> list[list[int]]:
    ids = tokenizer(texts, padding="max_length", max_length=MAX_TOKENS, truncation=True).input_ids
    return [list(row) for row in ids]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--out", type=Path, required=True, help="work folder: holds vae/; state and sd/ go there"
    )
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=1, help="another seed makes another checkpoint")
    parser.add_argument("--text-steps", type=int, default=3000, help="of the text encoder, before the UNet")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(arguments.threads)
    train(arguments.out, arguments.steps, arguments.seed, arguments.text_steps)
