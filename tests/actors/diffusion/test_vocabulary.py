"""Tokenizers of model folders: files that would spell words letter by letter are refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from actors.diffusion.model import DiffusionModel
from actors.errors import ModelError
from actors.models import TINYTOWN_FOLDER
from tests.model_folders import edit

CAPTION = "a red house left of a tall tree, with a sign"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Tinytown's model with its tokenizer as vocab.json and merges.txt, the layout of SD 1.5."""
    folder = Path(shutil.copytree(TINYTOWN_FOLDER, tmp_path / "sd"))
    tokenizer = folder / "tokenizer"
    model = json.loads((tokenizer / "tokenizer.json").read_text())["model"]
    (tokenizer / "vocab.json").write_text(json.dumps(model["vocab"]))
    lines = ["#version: 0.2", *(" ".join(pair) for pair in model["merges"])]
    (tokenizer / "merges.txt").write_text("\n".join(lines) + "\n")
    (tokenizer / "tokenizer.json").unlink()
    return folder


def ids(folder: Path) -> list[int]:
    return DiffusionModel(str(folder)).texts[0].tokenizer(CAPTION).input_ids


def refused(folder: Path, message: str) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        DiffusionModel(str(folder))
    assert str(folder) in str(caught.value)


def test_both_layouts_of_files_give_the_same_tokens(folder: Path):
    found = ids(folder)
    assert found == ids(TINYTOWN_FOLDER)
    assert len(found) < len(CAPTION.replace(" ", "")), "words are not spelled letter by letter"


@pytest.mark.parametrize(
    ("keep", "message"),
    [
        (lambda lines: lines[:1], r"tokenizer has 0 merges, and 174 of 217 tokens cannot be reached"),
        (lambda lines: lines[: len(lines) // 2], "tokens cannot be reached"),
        (lambda lines: lines[:-1], "tokenizer has 173 merges, and 1 of 217 tokens cannot be reached"),
        (lambda lines: [lines[0], "a b"], "its configuration is not valid"),
        (lambda lines: [*lines, "only-one-part"], "its configuration is not valid"),
    ],
)
def test_merges_that_are_not_those_of_the_vocabulary(
    folder: Path, keep: Callable[[list[str]], list[str]], message: str
):
    path = folder / "tokenizer" / "merges.txt"
    path.write_text("\n".join(keep(path.read_text().splitlines())) + "\n")
    refused(folder, message)


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", None])
def test_merges_that_are_empty_missing_or_not_text(folder: Path, content: bytes | None):
    path = folder / "tokenizer" / "merges.txt"
    path.unlink() if content is None else path.write_bytes(content)
    refused(folder, r"tokenizer")


@pytest.mark.parametrize(
    ("vocabulary", "message"),
    [
        ({}, "tokenizer"),
        ({"<|startoftext|>": 0, "<|endoftext|>": 1}, "tokenizer"),
        ({"a": "b"}, "tokenizer"),
        ([], r"tokenizer/vocab\.json holds a JSON list"),
    ],
)
def test_vocabularies_that_are_none(folder: Path, vocabulary: Any, message: str):
    (folder / "tokenizer" / "vocab.json").write_text(json.dumps(vocabulary))
    refused(folder, message)


def test_a_tokenizer_json_without_merges(folder: Path):
    shutil.copy(TINYTOWN_FOLDER / "tokenizer" / "tokenizer.json", folder / "tokenizer")
    model = json.loads((folder / "tokenizer" / "tokenizer.json").read_text())["model"]
    edit(folder / "tokenizer" / "tokenizer.json", model={**model, "merges": []})
    refused(folder, "tokenizer has 0 merges, and 174 of 217 tokens cannot be reached")


def test_a_tokenizer_of_another_kind(folder: Path):
    model = {
        "type": "WordLevel",
        "vocab": {"a": 0, "<|endoftext|>": 1, "<|startoftext|>": 2},
        "unk_token": "<|endoftext|>",
    }
    shutil.copy(TINYTOWN_FOLDER / "tokenizer" / "tokenizer.json", folder / "tokenizer")
    edit(folder / "tokenizer" / "tokenizer.json", model=model)
    refused(folder, "tokenizer")


def test_a_tokenizer_of_another_model(folder: Path):
    other = Path(__file__).parents[2] / "golden" / "tiny_sd" / "tokenizer"
    shutil.rmtree(folder / "tokenizer")
    shutil.copytree(other, folder / "tokenizer")
    refused(folder, "tokenizer has 514 tokens, its text encoder embeds 217: take parts of one model")


@pytest.mark.parametrize("length", [0, -1, "77", 1.5])
def test_a_length_that_is_none(folder: Path, length: Any):
    edit(folder / "tokenizer" / "tokenizer_config.json", model_max_length=length)
    refused(folder, "tokenizer|text_encoder")


def test_a_vocabulary_with_a_hole(folder: Path):
    path = folder / "tokenizer" / "vocab.json"
    vocabulary = json.loads(path.read_text())
    del vocabulary["!" if "!" in vocabulary else next(iter(vocabulary))]
    path.write_text(json.dumps(vocabulary))
    refused(folder, "the vocabulary of tokenizer has 216 tokens numbered up to 216, so some are missing")
