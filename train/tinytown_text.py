"""The text side of tinytown's diffusion model: a word-level CLIP tokenizer and a small CLIP text encoder."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from tinytown.scene import caption, sample_scene, vocabulary

START, END = "<|startoftext|>", "<|endoftext|>"
MAX_TOKENS = 64


def build_tokenizer() -> CLIPTokenizer:
    """A CLIP tokenizer in which every word of tinytown is one token."""
    captions = [caption(sample_scene(seed)) for seed in range(4000)] + vocabulary() * 20
    bpe = Tokenizer(models.BPE(end_of_word_suffix="</w>", unk_token=END))
    bpe.pre_tokenizer = pre_tokenizers.Whitespace()
    trainer = trainers.BpeTrainer(
        vocab_size=4000, min_frequency=1, end_of_word_suffix="</w>", show_progress=False
    )
    bpe.train_from_iterator((text.lower() for text in captions), trainer)
    model = json.loads(bpe.to_str())["model"]
    vocabulary_of_pieces = {**model["vocab"]}
    for special in (START, END):
        vocabulary_of_pieces[special] = len(vocabulary_of_pieces)
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]]
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "vocab.json").write_text(json.dumps(vocabulary_of_pieces))
        (Path(folder) / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n")
        tokenizer = CLIPTokenizer(
            str(Path(folder) / "vocab.json"),
            str(Path(folder) / "merges.txt"),
            unk_token=END,
            bos_token=START,
            eos_token=END,
            pad_token=END,
            model_max_length=MAX_TOKENS,
        )
    _check(tokenizer)
    return tokenizer


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


def _check(tokenizer: CLIPTokenizer) -> None:
    for word in vocabulary():
        pieces = tokenizer.tokenize(word)
        if len(pieces) != 1:
            raise ValueError(
                f"the word {word!r} is split into {pieces}: train the tokenizer on more captions"
            )
