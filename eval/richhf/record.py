"""One record of RichHF-18k: scores, two maps of what people marked, and a label for every token of the prompt."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from actors.errors import Reject
from actors.image_file import Loaded, load_image
from eval.richhf.example import Example

SCORES = ("aesthetics_score", "artifact_score", "misalignment_score", "overall_score")
"""Higher is better in all of them."""

LARGEST_MAP = 4096 * 4096
"""Pixels of a map that is decoded; the published ones are 512 x 512."""

_UID = re.compile(r"[A-Za-z0-9_-]{1,128}")
_DELIMITERS = re.compile(r"""[,.?!":; ]""")
_LABELS = re.compile(r"[01](?: +[01])*")
_COLOUR_TOLERANCE = 2
"""Levels by which the channels of a grey JPEG with three of them differ."""

_OWN = "bad_map"


@dataclass(frozen=True)
class Map:
    """A decoded map.

    Attributes:
        levels: uint8 [H, W], the average of what people marked.
        lossy: whether its file is a JPEG, or a lossy WebP, whose levels are not exact.
    """

    levels: NDArray[np.uint8]
    lossy: bool


@dataclass(frozen=True)
class Record:
    """A record as it is stored.

    Attributes:
        uid: of the image in Pick-a-Pic.
        scores: by name in `SCORES`.
        artifact_map, misalignment_map: encoded images, not looked into yet.
        token_labels: for each token of the prompt, 0 where it is misaligned with the image, else 1.
    """

    uid: str
    scores: dict[str, float]
    artifact_map: bytes
    misalignment_map: bytes
    token_labels: tuple[int, ...]


def parse_record(data: bytes) -> Record:
    """The record in the data of a TFRecord.

    Raises:
        Reject: `bad_example`, `bad_feature`, `bad_filename`, `bad_score` or `bad_tokens`.
    """
    example = Example(data)
    scores = {name: example.number(name) for name in SCORES}
    for name, score in scores.items():
        if not math.isfinite(score):
            raise Reject("bad_score", f"{name} is {score}, not a finite number")
    labels = example.text("prompt_misalignment_label").strip()
    if labels and not _LABELS.fullmatch(labels):
        raise Reject("bad_tokens", "prompt_misalignment_label is not a list of 0 and 1 with spaces between")
    return Record(
        uid=_uid(example.text("filename")),
        scores=scores,
        artifact_map=example.bytes("artifact_map"),
        misalignment_map=example.bytes("misalignment_map"),
        token_labels=tuple(map(int, labels.split())),
    )


def uid_in(data: bytes) -> str:
    """The uid of a record's image alone; raises as `parse_record` does."""
    return _uid(Example(data).text("filename"))


def tokens_of(prompt: str) -> list[str]:
    """The tokens that the labels are of: what is between spaces and the characters `,.?!":;`.

    The rule is that of `richhf_18k/match_label_to_token.py` in google-research/google-research.
    """
    return [token for token in _DELIMITERS.split(prompt) if token]


def labelled_tokens(prompt: str, labels: Sequence[int]) -> list[tuple[str, int]]:
    """The tokens of a prompt with their labels.

    Raises:
        Reject: `token_count`.
    """
    tokens = tokens_of(prompt)
    if len(tokens) != len(labels):
        raise Reject(
            "token_count",
            f"the prompt of the image has {len(tokens):,} tokens, prompt_misalignment_label {len(labels):,}",
        )
    return list(zip(tokens, labels, strict=True))


def decode_map(data: bytes, name: str) -> Map:
    """Decodes a map, whatever kind of image it is.

    Args:
        data: the encoded image, from outside.
        name: of the feature, for messages.

    Raises:
        Reject: `bad_map` for colours, transparency or another depth than 8 bits; else `map_` with the reasons of
            `actors.image_file.load_image`.
        MemoryError: the machine's fault, not the item's.
    """
    try:
        loaded = load_image(data, largest_pixels=LARGEST_MAP)
        return Map(_grey(loaded), loaded.lossy)
    except Reject as why:
        reason = why.reason if why.reason == _OWN else f"map_{why.reason}"
        raise Reject(reason, f"{name}: {why.detail}") from None


def _uid(filename: str) -> str:
    """The base name of a path up to its first dot."""
    uid = filename.rpartition("/")[2].partition(".")[0]
    if not _UID.fullmatch(uid):
        raise Reject("bad_filename", "the base name of filename, up to its first dot, is no uid of an image")
    return uid


def _grey(loaded: Loaded) -> NDArray[np.uint8]:
    image = loaded.image
    if image.mode == "1" or (image.mode == "L" and loaded.bits == 8):
        return np.asarray(image.convert("L"))
    if image.mode != "RGB" or loaded.bits != 8:
        raise Reject(_OWN, f"its mode is {image.mode} with {loaded.bits} bits; 8-bit grey is wanted")
    pixels = np.asarray(image)
    difference = pixels.max(axis=2) - pixels.min(axis=2)
    if difference.max() > (_COLOUR_TOLERANCE if loaded.lossy else 0):
        raise Reject(_OWN, "it has colours; 8-bit grey, or three equal channels, are wanted")
    return pixels[..., 0]
