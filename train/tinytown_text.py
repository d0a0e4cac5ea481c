"""The text side of tinytown's diffusion model: a word-level CLIP tokenizer and a small CLIP text encoder."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from itertools import pairwise
from pathlib import Path

from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from tinytown.scene import vocabulary

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
