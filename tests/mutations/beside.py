"""Sound images with mutated masks, captions and names."""

from __future__ import annotations

import io
import json
import random

import numpy as np
from PIL import Image

from tests.mutations.inputs import ACCEPTED, CAPTION_ENDS, MASK_ENDS, REGION_ENDS, Item, kind
from tests.mutations.looks import exif_of
from tests.mutations.pictures import (
    HEIGHT,
    QUARTERS,
    WIDTH,
    compressible,
    flipped,
    mask_png,
    plain,
    png,
    rows_of,
    saved,
)


def masked(name: str, mask: bytes | None, *ends: str) -> Item:
    files = {"jpg": plain("JPEG")} if mask is None else {"jpg": plain("JPEG"), "mask.png": mask}
    return Item(name, files, frozenset(ends or ACCEPTED), QUARTERS)


@kind("mask: odd kinds of pixels and sizes", 34)
def _masks(number: int, rng: random.Random) -> Item:
    name = "mask: odd kinds of pixels and sizes"
    inside = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    inside[24:48, 32:64] = 1
    holes = np.where(inside > 0, np.nan, 1.0).astype(np.float32)
    numbers, tiff = io.BytesIO(), Image.fromarray(holes)
    np.save(numbers, holes)
    grey = Image.fromarray(inside * 255)
    palette = Image.fromarray(inside, "P")
    palette.putpalette([0, 0, 0, 255, 255, 255])
    swapped = palette.copy()
    swapped.putpalette([255, 255, 255, 0, 0, 0])
    clear = Image.merge("LA", (grey, Image.new("L", grey.size, 0)))
    dot = np.zeros_like(inside)
    dot[36, 48] = 255
    noise = np.random.default_rng(1).random(inside.shape) < 0.2
    frames = {"save_all": True, "append_images": [Image.new("L", grey.size, 9)]}
    made = [
        (saved(tiff, "TIFF"), "mask_not_an_image"), (numbers.getvalue(), "mask_not_an_image"),
        (saved(Image.fromarray(np.ones_like(inside) * 255), "PNG"), "region_too_large"),
        (saved(Image.fromarray(np.zeros_like(inside)), "PNG"), "no_region"),
        (png((WIDTH, HEIGHT, 16, 0), rows_of(inside.astype(">u2") * 65_535)), "accepted"),
        (png((WIDTH, HEIGHT, 16, 0), rows_of(inside.astype(">u2"))), "accepted"),
        (saved(palette, "PNG"), "accepted"), (saved(swapped, "PNG"), "accepted"),
        (saved(grey.convert("RGB"), "PNG"), "accepted"), (saved(grey.convert("RGBA"), "PNG"), "accepted"),
        (saved(clear, "PNG"), "bad_mask"), (saved(grey.convert("1"), "PNG"), "accepted"),
        (saved(Image.fromarray(inside), "PNG"), "accepted"),
        (saved(Image.fromarray(inside * 127), "PNG"), "bad_mask"),
        (saved(Image.fromarray(inside * 128), "PNG"), "bad_mask"), (saved(grey, "JPEG"), "accepted"),
        (saved(grey.convert("RGB"), "WEBP"), "accepted"), (saved(grey, "GIF"), "mask_not_an_image"),
        (saved(grey, "PNG", **frames), "mask_animated"), (mask_png(WIDTH + 1, HEIGHT), "mask_size"),
        (mask_png(HEIGHT, WIDTH), "mask_size"), (mask_png(1, 1), "mask_size"),
        (mask_png(2 * WIDTH, 2 * HEIGHT), "mask_size"),
        (saved(Image.open(io.BytesIO(mask_png(HEIGHT, WIDTH))), "PNG", exif=exif_of(6)), "accepted"),
        (saved(grey, "PNG", exif=exif_of(6)), "mask_size"), (b"", "mask_empty"),
        (bytes(100), "mask_not_an_image"),
        (compressible(20_000, 1, 0), "mask_too_many_pixels"), (b'{"mask": NaN}', "mask_not_an_image"),
        (saved(Image.fromarray(dot), "PNG"), "region_too_small"),
        (saved(grey, "PNG", icc_profile=b"x" * 99), "accepted"),
        (None, "no_mask"), (saved(Image.fromarray(inside.astype(np.uint16) * 255), "PNG"), "accepted"),
        (saved(Image.fromarray(noise * np.uint8(255)), "PNG"), "accepted"),
    ]  # fmt: skip
    mask, end = made[number]
    return masked(name, mask, end)


@kind("mask: bits flipped", 40)
def _flipped(number: int, rng: random.Random) -> Item:
    mask = flipped(mask_png(), rng, 0, 1 << 20)
    return masked("mask: bits flipped", mask, "accepted", "mask_size", *MASK_ENDS, *REGION_ENDS)


@kind("mask: cut", 20)
def _cut(number: int, rng: random.Random) -> Item:
    whole = mask_png()
    cut = whole[: (len(whole) - 14) * number // 20]
    whole_picture = ("accepted",) if number == 19 else ()
    return masked("mask: cut", cut, "mask_empty", "mask_not_an_image", "mask_damaged", *whole_picture)


def captioned(name: str, extension: str, data: bytes, caption: str | None) -> Item:
    files = {"jpg": plain("JPEG"), "mask.png": mask_png(), extension: data}
    route = "folder" if extension == "txt" else "tar"
    return Item(name, files, CAPTION_ENDS if caption is None else ACCEPTED, QUARTERS, caption, route)


@kind("caption: text", 22)
def _text(number: int, rng: random.Random) -> Item:
    texts: list[tuple[bytes, str | None]] = [
        (b"", ""), (b"  a hand \r\n", "a hand"), ("\ufeffa hand".encode(), "a hand"),
        ("eine Hand, 手".encode(), "eine Hand, 手"),
        ("café".encode("latin-1"), None), ("a hand".encode("utf-16"), None), (b"\xed\xa0\x80", None),
        (b"\xff\xfe\0", None),
        (b"a\0b", "a\0b"), (b"\0", "\0"), (b"x" * (1 << 20), "x" * (1 << 20)), (b"x" * ((1 << 20) + 1), None),
        (b"\x1b[31mred\x07", "\x1b[31mred\x07"), (b"two\nlines", "two\nlines"),
        ("\u202eesrever".encode(), "\u202eesrever"),
        (b"{{ recipe }} %s %(x)s ${HOME}", "{{ recipe }} %s %(x)s ${HOME}"),
        (b"<script>alert(1)</script>", "<script>alert(1)</script>"),
        (plain("JPEG"), None), (b"\xc0\xaf", None), ("\U0010ffff".encode(), "\U0010ffff"),
        (b"\xf4\x90\x80\x80", None),
        (b" " * 1000, ""),
    ]  # fmt: skip
    return captioned("caption: text", "txt", *texts[number])


@kind("caption: JSON", 34)
def _json(number: int, rng: random.Random) -> Item:
    documents: list[tuple[bytes, str | None]] = [
        (b'{"prompt": "a hand"}', "a hand"), (b'{"prompt": null}', ""), (b'{"prompt": NaN}', None),
        (b'{"prompt": "x", "score": NaN}', "x"), (b'{"prompt": -Infinity}', None), (b'{"prompt": 7}', None),
        (b'{"prompt": ["a"]}', None), (b'{"prompt": {"a": 1}}', None), (b'{"prompt": true}', None),
        (b"{}", None),
        (b'{"Prompt": "x"}', None), (b"[]", None), (b'"a hand"', None), (b"null", None), (b"7", None),
        (b"", None),
        (b"{", None), (b'{"prompt": "x"', None), (b"{'prompt': 'x'}", None), (b'{"prompt": "\\ud800"}', None),
        (b'{"prompt": "\\ud83d\\ude00"}', "\U0001f600"), (b'{"prompt": "\\u0000"}', "\0"),
        (b'{"\\ud800": "x"}', None),
        (b'{"prompt": "a", "prompt": "b"}', "b"), (b"[" * 200_000, None), (b'{"a":' * 100_000, None),
        (b'{"prompt": ' + b"9" * 10_000 + b"}", None), (b'{"prompt": 1e999}', None),
        (b"\xef\xbb\xbf" + b'{"prompt": "x"}', "x"),
        ('{"prompt": "x"}'.encode("utf-16"), None),
        (json.dumps({"prompt": "x" * 1_000_000}).encode(), "x" * 1_000_000),
        (json.dumps({"prompt": "x" * (1 << 20)}).encode(), None),
        (json.dumps({"k" * 900_000: "x"}).encode(), None),
        (b'{"prompt": "x"}\0', None),
    ]  # fmt: skip
    return captioned("caption: JSON", "json", *documents[number])


@kind("name: in a folder", 30)
def _names(number: int, rng: random.Random) -> Item:
    names = [
        "dotted.name.of.many.dots", "a space", "line\nbreak", "tab\there", "ünïcödé", "u\u0308", "\u00fc",
        "日本語", "😀", "Case", "case",
        "CASE", "x" * 200, "ü" * 100, "q?mark=1&x", "hash#tag", "per%20cent", "star*", "[bracket]",
        "{brace,d}", "{0..3}", "back\\slash",
        'quote"and\'', "~tilde", "$HOME", "-rf", "a:b", "c:\\d", "\u202egnp", "\x01\x7f",
    ]  # fmt: skip
    files = {"jpg": plain("JPEG"), "mask.png": mask_png(), "txt": b"a hand"}
    return Item("name: in a folder", files, ACCEPTED, QUARTERS, "a hand", "folder", names[number])


@kind("name: in a tar", 25)
def _members(number: int, rng: random.Random) -> Item:
    names = [
        "a space", "line\nbreak", "ünïcödé", "日本語", "Case", "case", "x" * 300, "ü" * 300,
        "deep/" * 200 + "x", "q?mark=1", "hash#tag",
        "per%2e%2e", "star*", "back\\slash", "C:\\x", "./dot", "a//b", "chain::inner", "caf\udce9",
        "\udcff\udcfe/x", "~root/x",
        "..x/y", "a/./b", "\x01\x7f", "$(touch x)",
    ]  # fmt: skip
    files = {"jpg": plain("JPEG"), "mask.png": mask_png(), "json": b'{"prompt": "a hand"}'}

    return Item("name: in a tar", files, ACCEPTED, QUARTERS, "a hand", "tar", names[number])


@kind("name: not UTF-8, and something to say of it", 6)
def _told(number: int, rng: random.Random) -> Item:
    files = {"jpg": plain("JPEG"), "mask.png": mask_png(), "json": [b"{", b"x" * ((1 << 20) + 1)][number % 2]}
    name = "name: not UTF-8, and something to say of it"
    return Item(
        name, files, CAPTION_ENDS, None, None, "tar", ["bad\udce9", "\udcff", "a\udc80b/c"][number // 2]
    )
