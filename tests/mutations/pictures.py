"""Mutated images: flipped, cut, bombs, odd kinds of pixels, odd metadata."""

from __future__ import annotations

import gzip
import io
import random
import struct
import zipfile
import zlib
from functools import cache

import numpy as np
from PIL import Image

from tests.mutations.inputs import ACCEPTED, DAMAGED, NO_IMAGE, PICTURE_ENDS, Item, Quarters, kind

QUARTERS: Quarters = ((200, 30, 40), (30, 190, 60), (40, 60, 210), (230, 220, 50))
GREY: Quarters = tuple((round(0.299 * r + 0.587 * g + 0.114 * b),) * 3 for r, g, b in QUARTERS)  # type: ignore[assignment]
WIDTH, HEIGHT = 96, 72
EXTENSIONS = {"PNG": "png", "JPEG": "jpg", "WEBP": "webp"}
FORMATS = tuple(EXTENSIONS)


def pixels(width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """uint8 [height, width, 3]: the four quarters with a little noise, so that there is something to cut."""
    flat = np.zeros((height, width, 3), dtype=np.int16)
    rows, columns = (
        (slice(None, height // 2), slice(height // 2, None)),
        (slice(None, width // 2), slice(width // 2, None)),
    )
    for number, colour in enumerate(QUARTERS):
        flat[rows[number // 2], columns[number % 2]] = colour
    noise = np.random.default_rng(0).integers(-4, 5, flat.shape)
    return np.clip(flat + noise, 0, 255).astype(np.uint8)


@cache
def picture(width: int = WIDTH, height: int = HEIGHT) -> Image.Image:
    return Image.fromarray(pixels(width, height))


def saved(image: Image.Image, form: str, **options: object) -> bytes:
    if form == "WEBP" and "quality" not in options:
        options["lossless"] = True
    if form == "JPEG":
        options = {"quality": 92, "subsampling": 0, **options}
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


@cache
def plain(form: str, progressive: bool = False) -> bytes:
    return saved(picture(), form, **({"progressive": True} if progressive else {}))


@cache
def mask_png(width: int = WIDTH, height: int = HEIGHT) -> bytes:
    """White in the middle third by the middle third: a ninth of the image."""
    mask = np.zeros((height, width), dtype=np.uint8)
    mask[height // 3 : height * 2 // 3, width // 3 : width * 2 // 3] = 255
    return saved(Image.fromarray(mask), "PNG")


def item(
    name: str,
    data: bytes,
    ends: frozenset[str] = ACCEPTED,
    *,
    form: str = "PNG",
    size: tuple[int, int] = (WIDTH, HEIGHT),
    quarters: Quarters | None = None,
) -> Item:
    """An image with a sound mask of `size`."""
    return Item(name, {EXTENSIONS[form]: data, "mask.png": mask_png(*size)}, ends, quarters)


def chunk(name: bytes, data: bytes, checksum: int | None = None) -> bytes:
    crc = zlib.crc32(name + data) if checksum is None else checksum
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", crc)


def png(
    header: tuple[int, ...], rows: bytes, *before: bytes, after: bytes = b"", packed: bool = False
) -> bytes:
    """A PNG by the specification. `header` is width, height, bits, colour type; `rows` have their filter bytes."""
    body = rows if packed else zlib.compress(rows)
    begin = chunk(b"IHDR", struct.pack(">IIBBBBB", *header, *(0, 0, 0)[: 7 - len(header)]))
    return (
        b"\x89PNG\r\n\x1a\n" + begin + b"".join(before) + chunk(b"IDAT", body) + after + chunk(b"IEND", b"")
    )


def rows_of(levels: np.ndarray) -> bytes:
    """Rows of a PNG without filters; `levels` as they lie in the file, [height, ...]."""
    return b"".join(b"\0" + row.tobytes() for row in levels)


@cache
def parts(form: str = "PNG") -> list[tuple[bytes, bytes]]:
    """Name and data of every chunk of the plain PNG."""
    data, at, found = plain(form), 8, []
    while at < len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        found.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    return found


def with_chunks(*extra: bytes) -> bytes:
    """The plain PNG with chunks after its header."""
    header, *rest = (chunk(*one) for one in parts())
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(extra) + b"".join(rest)


def flipped(data: bytes, rng: random.Random, first: int, end: int) -> bytes:
    """One to four bits of the bytes from `first` to before `end` turned over."""
    changed = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        changed[rng.randrange(first, min(end, len(data)))] ^= 1 << rng.randrange(8)
    return bytes(changed)


@kind("image: bits of the header flipped", 240)
def _header(number: int, rng: random.Random) -> Item:
    form = FORMATS[number % 3]
    return item(
        "image: bits of the header flipped", flipped(plain(form), rng, 0, 64), PICTURE_ENDS, form=form
    )


@kind("image: bits of the body flipped", 149)
def _body(number: int, rng: random.Random) -> Item:
    form = FORMATS[number % 3]
    data = flipped(plain(form, progressive=form == "JPEG" and number % 2 == 0), rng, 64, 1 << 30)
    return item("image: bits of the body flipped", data, PICTURE_ENDS, form=form)


@kind("image: a PNG's checksum flipped", 30)
def _checksum(number: int, rng: random.Random) -> Item:
    where = number % len(parts())
    data = b"\x89PNG\r\n\x1a\n"
    for place, (name, content) in enumerate(parts()):
        right = zlib.crc32(name + content)
        data += chunk(name, content, right ^ (1 << rng.randrange(32)) if place == where else right)
    # A wrong checksum of the header or of the pixels is damage; after the last pixel nothing is looked at.
    ends = DAMAGED if parts()[where][0] == b"IHDR" else DAMAGED | ACCEPTED
    return item("image: a PNG's checksum flipped", data, ends, quarters=QUARTERS)


@kind("image: cut", 180)
def _cut(number: int, rng: random.Random) -> Item:
    form = FORMATS[number % 3]
    whole = plain(form, progressive=form == "JPEG" and number % 2 == 0)
    # Every early byte, then anywhere; the last bytes hold no pixels, and may be missing without loss.
    length = number // 3 if number < 60 else rng.randrange(20, len(whole) - 16)
    if number >= 165:
        length = len(whole) - 1 - number % 15
    ends = NO_IMAGE if number < 165 else DAMAGED | ACCEPTED
    return item("image: cut", whole[:length], ends, form=form, quarters=QUARTERS if number >= 165 else None)


@kind("image: promises more pixels than it has", 30)
def _promises(number: int, rng: random.Random) -> Item:
    name, form = "image: promises more pixels than it has", FORMATS[number % 3]
    width, height = [(60_000, 60_000), (16_384, 16_384), (9_000, 9_000), (65_500, 2_000), (2**24, 16)][
        number // 3 % 5
    ]
    if form == "PNG":
        if number >= 15:
            width, height = [(2**31 - 1, 2**31 - 1), (2**32 - 1, 2**32 - 1), (2**31 - 1, 1)][number // 3 % 3]
        data = png((width, height, 8, 2), b"\0" * 100)
    elif form == "JPEG":
        data = bytearray(plain("JPEG"))
        at = data.index(b"\xff\xc0")
        data[at + 5 : at + 9] = struct.pack(">HH", min(height, 65_500), min(width, 65_500))
    else:
        canvas = (min(width, 2**24) - 1).to_bytes(3, "little") + (min(height, 2**24) - 1).to_bytes(
            3, "little"
        )
        bits = (16_383 | 16_383 << 14).to_bytes(4, "little")
        inner = plain("WEBP")[12:]
        body = b"VP8X" + struct.pack("<I", 10) + bytes([2 * (number % 2), 0, 0, 0]) + canvas + inner
        if number >= 15:
            body = b"VP8L" + struct.pack("<I", 40) + b"\x2f" + bits + bytes(35)
        data = b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body
    return item(name, bytes(data), frozenset({"too_many_pixels", "damaged", "too_small"}), form=form)


@cache
def compressible(side: int, bits: int, colour: int) -> bytes:
    channels = {0: 1, 2: 3, 3: 1, 6: 4}[colour]
    row, packer = b"\0" * (1 + (side * bits * channels + 7) // 8), zlib.compressobj(1)
    body = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()
    palette = [chunk(b"PLTE", bytes(6))] if colour == 3 else []
    return png((side, side, bits, colour), body, *palette, packed=True)


@kind("image: a bomb of many equal pixels", 6)
def _bomb(number: int, rng: random.Random) -> Item:
    made = [(20_000, 1, 0), (30_000, 1, 0), (12_000, 8, 0), (20_000, 1, 3), (13_000, 1, 0), (8_001, 8, 0)][
        number
    ]
    return item("image: a bomb of many equal pixels", compressible(*made), frozenset({"too_many_pixels"}))


@kind("image: just as many pixels as are decoded", 2)
def _just_right(number: int, rng: random.Random) -> Item:
    data = compressible(8_000, 1, 0) if number else compressible(8_000, 8, 0)
    return item("image: just as many pixels as are decoded", data, frozenset({"mask_size"}))


@cache
def packed_zeros(count: int) -> bytes:
    return zlib.compress(bytes(count), 1)


@kind("image: a bomb of text or profile", 12)
def _text_bomb(number: int, rng: random.Random) -> Item:
    nothing = packed_zeros([50_000_000, 5_000_000, 70_000_000][number % 3])
    many = b"".join(chunk(b"zTXt", b"prompt%d\0\0" % place + packed_zeros(900_000)) for place in range(100))
    extra = [
        chunk(b"zTXt", b"prompt\0\0" + nothing),
        chunk(b"iTXt", b"prompt\0\1\0en\0prompt\0" + nothing),
        chunk(b"iCCP", b"profile\0\0" + nothing),
        many,
    ][number // 3]
    return item("image: a bomb of text or profile", with_chunks(extra), quarters=QUARTERS)


@kind("image: very many small chunks", 3)
def _many_chunks(number: int, rng: random.Random) -> Item:
    extra = [chunk(b"tEXt", b"k\0v"), chunk(b"prVt", b""), chunk(b"tIME", bytes(7))][number]
    data = with_chunks(extra * 100_000)
    return item("image: very many small chunks", data, ACCEPTED, quarters=QUARTERS)


@kind("image: a JPEG of very many scans", 3)
def _scans(number: int, rng: random.Random) -> Item:
    """Every scan goes over all pixels again, and takes next to no bytes."""
    return item(
        "image: a JPEG of very many scans",
        scans([101, 2_000, 60_000][number]),
        frozenset({"too_many_scans"}),
        form="JPEG",
    )


@cache
def scans(count: int, side: int = 2_000) -> bytes:
    """A progressive grey JPEG of side x side pixels: one scan of values, and `count` that refine nothing."""
    whole = saved(Image.new("L", (side, side), 99), "JPEG", progressive=True)
    at = whole.rindex(b"\xff\xda")
    return whole[:at] + whole[at:-2] * count + b"\xff\xd9"


@kind("image: no bytes, or zeros", 8)
def _zeros(number: int, rng: random.Random) -> Item:
    data = bytes([0, 0, 0, 1, 8, 512, 4096, 100_000][number])
    return item(
        "image: no bytes, or zeros",
        data,
        frozenset({"not_an_image" if data else "empty"}),
        form=FORMATS[number % 3],
    )


@kind("image: of another kind than its name says", 9)
def _renamed(number: int, rng: random.Random) -> Item:
    data = plain(FORMATS[number // 3])
    return item(
        "image: of another kind than its name says", data, form=FORMATS[number % 3], quarters=QUARTERS
    )


@kind("image: no image, but named like one", 24)
def _no_image(number: int, rng: random.Random) -> Item:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as opened:
        opened.writestr("../../canary/kept.txt", b"from a zip")
    others = [
        b"hello, I am a text", b"<!doctype html><html><img src='file:///etc/passwd'></html>",
        b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd'/></svg>",
        b"%PDF-1.7\n", archive.getvalue(), gzip.compress(plain("PNG")), b"\x7fELF" + bytes(100),
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/etc/passwd) run\n",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3\n", b"P6\n2 2\n255\n" + bytes(12),
        b"RIFF\x24\0\0\0WAVEfmt ", rng.randbytes(5_000), b"\xef\xbb\xbf" + plain("PNG"),
        b"\n" + plain("JPEG"),
        plain("PNG")[::-1], "\u202egnp.exe".encode("utf-16"),
    ]  # fmt: skip
    if number >= len(others):
        form = ["GIF", "BMP", "TIFF", "AVIF", "ICO", "PPM", "TGA", "JPEG2000"][number - len(others)]
        others.append(saved(picture(), form))
    data = others[min(number, len(others) - 1)]
    return item(
        "image: no image, but named like one", data, frozenset({"not_an_image"}), form=FORMATS[number % 3]
    )
