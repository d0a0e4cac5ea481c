"""Every word of tinytown is one token, and a caption fits the encoder."""

from __future__ import annotations

from pathlib import Path

import torch

from tinytown.scene import caption, sample_scene, vocabulary
from tools.tinytown.text import MAX_TOKENS, build_text_encoder, build_tokenizer, pretrain


def test_one_token_a_word_and_all_captions_fit(tmp_path: Path):
    tokenizer = build_tokenizer()
    assert all(len(tokenizer.tokenize(word)) == 1 for word in vocabulary())
    longest = max(len(tokenizer(caption(sample_scene(seed))).input_ids) for seed in range(500))
    assert longest <= MAX_TOKENS
    tokenizer.save_pretrained(tmp_path)
    again = type(tokenizer).from_pretrained(tmp_path)
    text = caption(sample_scene(3))
    assert again(text).input_ids == tokenizer(text).input_ids
    states = build_text_encoder(tokenizer)(tokenizer([text], return_tensors="pt").input_ids)
    assert states.last_hidden_state.shape[-1] == 128


def test_the_shipped_tokenizer_is_the_one_that_the_program_makes():
    shipped = Path(__file__).parents[3] / "tinytown" / "weights" / "sd" / "tokenizer"
    tokenizer = build_tokenizer()
    there = type(tokenizer).from_pretrained(shipped)
    for seed in range(50):
        assert (
            there(caption(sample_scene(seed))).input_ids == tokenizer(caption(sample_scene(seed))).input_ids
        )


def test_pretraining_teaches_the_encoder_and_no_steps_leave_it():
    tokenizer = build_tokenizer()
    texts = ["a day scene with", "a night scene with"]
    tokens = torch.tensor(tokenizer(texts, padding="max_length", max_length=MAX_TOKENS).input_ids)
    latents = torch.stack([torch.full((4, 16, 16), -1.0), torch.full((4, 16, 16), 1.0)])
    torch.manual_seed(0)
    text = build_text_encoder(tokenizer, width=128)
    before = {name: value.clone() for name, value in text.state_dict().items()}
    assert pretrain(text, latents, tokens, steps=0, seed=0) == []
    assert all(torch.equal(value, before[name]) for name, value in text.state_dict().items())
    losses = pretrain(text, latents, tokens, steps=12, seed=0)
    # An answer of 0 everywhere has the loss 1.
    assert losses[0] > 0.9 and losses[-1] < 0.5
    words = "embeddings.token_embedding.weight"
    assert not torch.equal(text.state_dict()[words], before[words])
