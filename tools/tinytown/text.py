"""The text side of tinytown's diffusion model: a word-level CLIP tokenizer and a small CLIP text encoder."""

from __future__ import annotations

import json
import logging
import tempfile
from collections import Counter
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from tinytown.scene import vocabulary

log = logging.getLogger(__name__)

START, END = "<|startoftext|>", "<|endoftext|>"
MAX_TOKENS = 64


def build_tokenizer() -> CLIPTokenizer:
    """A CLIP tokenizer in which every word of tinytown is one token."""
    words = sorted({word.lower() for word in vocabulary()} | {","})
    pieces, merges = _byte_pairs(words)
    numbers = {piece: number for number, piece in enumerate([*pieces, START, END])}
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "vocab.json").write_text(json.dumps(numbers))
        lines = ["#version: 0.2", *(" ".join(pair) for pair in merges)]
        (Path(folder) / "merges.txt").write_text("\n".join(lines) + "\n")
        return CLIPTokenizer(
            str(Path(folder) / "vocab.json"),
            str(Path(folder) / "merges.txt"),
            unk_token=END,
            bos_token=START,
            eos_token=END,
            pad_token=END,
            model_max_length=MAX_TOKENS,
        )


def _byte_pairs(words: list[str]) -> tuple[list[str], list[tuple[str, str]]]:
    """Pieces and merges of byte-pair encoding, trained until every word is one piece.

    The library's trainer breaks ties by the order of a hash table, so that every run numbers the words anew.
    """
    split = [[*word[:-1], f"{word[-1]}</w>"] for word in words]
    pieces = sorted({piece for parts in split for piece in parts})
    merges: list[tuple[str, str]] = []
    while pairs := Counter(pair for parts in split for pair in pairwise(parts)):
        best = max(pairs, key=lambda pair: (pairs[pair], pair))
        merges.append(best)
        if "".join(best) not in pieces:
            pieces.append("".join(best))
        split = [_merged(parts, best) for parts in split]
    return pieces, merges


def _merged(parts: list[str], pair: tuple[str, str]) -> list[str]:
    result: list[str] = []
    for part in parts:
        if result and (result[-1], part) == pair:
            result[-1] += part
        else:
            result.append(part)
    return result


def build_text_encoder(tokenizer: CLIPTokenizer, width: int = 128) -> CLIPTextModel:
    """An untrained two-layer CLIP text encoder for this tokenizer; hidden states [B, tokens, width]."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=width,
            intermediate_size=2 * width,
            projection_dim=width,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=MAX_TOKENS,
            hidden_act="quick_gelu",
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


class Painter(torch.nn.Module):
    """Paints pixels of the latent of a caption, from the text states alone: a teacher, discarded after training."""

    def __init__(self, width: int = 128, latent_pixels: int = 256, channels: int = 4) -> None:
        super().__init__()
        self.latent_pixels = torch.nn.Parameter(torch.randn(latent_pixels, width) * 0.5)
        self.looks = torch.nn.ModuleList(
            torch.nn.MultiheadAttention(width, 4, batch_first=True) for _ in range(2)
        )
        self.norms = torch.nn.ModuleList(torch.nn.LayerNorm(width) for _ in range(2))
        self.thoughts = torch.nn.ModuleList(
            torch.nn.Sequential(
                torch.nn.LayerNorm(width),
                torch.nn.Linear(width, 2 * width),
                torch.nn.GELU(),
                torch.nn.Linear(2 * width, width),
            )
            for _ in range(2)
        )
        self.head = torch.nn.Sequential(torch.nn.LayerNorm(width), torch.nn.Linear(width, channels))

    def forward(self, states: Tensor, latent_pixels: Tensor) -> Tensor:
        """Text states [B, tokens, width] and pixel numbers [K] to latents [B, K, 4]."""
        rows = self.latent_pixels[latent_pixels].expand(len(states), -1, -1)
        for look, norm, think in zip(self.looks, self.norms, self.thoughts, strict=True):
            rows = rows + look(norm(rows), states, states, need_weights=False)[0]
            rows = rows + think(rows)
        painted: Tensor = self.head(rows)
        return painted


def pretrain(text: CLIPTextModel, latents: Tensor, tokens: Tensor, steps: int, seed: int) -> list[float]:
    """Teaches a text encoder what stands where, before a UNet is trained with it.

    A UNet alone learns kinds and colours from the text soon, and places late: the gradient through noise is weak.
    A painter that regresses the clean latent from the states makes the encoder bind words to places in minutes.

    Args:
        text: trained in place.
        latents: scaled latents [N, 4, 16, 16] of images.
        tokens: int64 [N, MAX_TOKENS], their captions.
        steps: of 64 captions and 64 latent pixels each; 0 leaves the encoder as it is.
        seed: of painter and batches.

    Returns:
        The loss of every step: the mean squared error of the painted latent pixels.
    """
    torch.manual_seed(seed)
    painter = Painter()
    optimizer = torch.optim.AdamW([*text.parameters(), *painter.parameters()], weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 1.5e-3, total_steps=max(steps, 1), pct_start=0.1
    )
    targets = latents.flatten(2).transpose(1, 2)
    losses = []
    for step in range(steps):
        generator = torch.Generator().manual_seed(seed * 10_000_000 + step)
        rows = torch.randint(len(latents), (64,), generator=generator)
        latent_pixels = torch.randperm(256, generator=generator)[:64]
        with torch.autocast("cpu", torch.bfloat16):
            painted = painter(text(tokens[rows]).last_hidden_state, latent_pixels)
        loss = torch.nn.functional.mse_loss(painted.float(), targets[rows][:, latent_pixels].float())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_([*text.parameters(), *painter.parameters()], 1.0)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
        if step % 100 == 99:
            log.info("text step %d loss %.4f", step + 1, sum(losses[-100:]) / 100)
    return losses
