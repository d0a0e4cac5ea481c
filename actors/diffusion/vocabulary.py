"""CLIP tokenizers: a vocabulary whose tokens its merges can make, and that fits the text encoder."""

from __future__ import annotations

import json
from typing import Any

from transformers import CLIPTokenizer

from actors.errors import ModelError
from actors.model_files import ModelFolder
from actors.weights import explained

PADDING = 128
"""Rows of an embedding beyond the vocabulary that are taken for padding to a round number."""

_END_OF_WORD = "</w>"


def load_tokenizer(folder: ModelFolder, part: str, *, rows: int) -> CLIPTokenizer:
    """A tokenizer that spells words as the model was trained with.

    Args:
        folder: the model's folder.
        part: a folder in it, such as `tokenizer_2`.
        rows: of the text encoder's token embedding.

    Raises:
        ModelError: a file is missing or broken; tokens that no merge makes, as with an empty merges.txt, so that
            words would be spelled letter by letter; a vocabulary that is not the text encoder's.
    """
    for path in folder.tokenizer_files(part):
        name = path.relative_to(folder.path).as_posix()
        if path.suffix == ".json":
            folder.config(name)
        elif path.name != "merges.txt":
            folder.read(name)
    with explained(folder, part):
        tokenizer = CLIPTokenizer.from_pretrained(folder.path / part, local_files_only=True)
        model = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
        added = set(tokenizer.get_added_vocab())
        numbers = set(tokenizer.get_vocab().values())
        largest = max(numbers, default=-1) + 1
    if len(numbers) != largest:
        raise ModelError(
            f"{folder.name}: the vocabulary of {part} has {len(numbers)} tokens numbered up to {largest - 1}, so some "
            f"are missing ({folder.path / part}): {folder.advice}"
        )
    _check_merges(folder, part, model, added)
    if largest > rows or largest <= rows - PADDING:
        raise ModelError(
            f"{folder.name}: {part} has {largest} tokens, its text encoder embeds {rows}: take parts of one model"
        )
    return tokenizer


def _check_merges(folder: ModelFolder, part: str, model: dict[str, Any], added: set[str]) -> None:
    """Refuses a byte-pair vocabulary with tokens of several characters that no merge gives."""
    if model.get("type") != "BPE":
        raise ModelError(
            f"{folder.name}: {part} is a {model.get('type')} tokenizer, not CLIP's BPE: {folder.advice}"
        )
    pairs = [pair if isinstance(pair, list) else pair.split(" ") for pair in model["merges"]]
    made = {"".join(pair) for pair in pairs}
    several = [token for token in model["vocab"] if len(token.removesuffix(_END_OF_WORD)) > 1]
    unreachable = [token for token in several if token not in made and token not in added]
    letters = {token for token in model["vocab"] if len(token) == 1}
    if not unreachable and len(letters) > 1:
        return
    if unreachable:
        cause = f"{len(unreachable):,} of {len(model['vocab']):,} tokens cannot be reached, such as {unreachable[0]!r}"
    else:
        cause = f"its vocabulary has {len(letters)} letters"
    raise ModelError(
        f"{folder.name}: {part} has {len(pairs):,} merges, and {cause}: its vocabulary and merges do not belong "
        f"together, or are cut off ({folder.path / part}); {folder.advice}"
    )
