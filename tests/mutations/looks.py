"""Sound images that are odd: turned, with strange metadata, of rare kinds of pixels or sizes, in strange order."""

from __future__ import annotations

import random
import struct
import zlib
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageCms

from tests.mutations.inputs import ACCEPTED, PICTURE_ENDS, Item, Quarters, kind
from tests.mutations.pictures import (
    FORMATS,
    GREY,
    HEIGHT,
    QUARTERS,
    WIDTH,
    chunk,
    flipped,
    item,
    parts,
    picture,
    pixels,
    plain,
    png,
    rows_of,
    saved,
    with_chunks,
)

UPRIGHT: dict[int, Callable[[Quarters], Quarters]] = {
    1: lambda q: q,
    2: lambda q: (q[1], q[0], q[3], q[2]),
    3: lambda q: (q[3], q[2], q[1], q[0]),
    4: lambda q: (q[2], q[3], q[0], q[1]),
    5: lambda q: (q[0], q[2], q[1], q[3]),
    6: lambda q: (q[2], q[0], q[3], q[1]),
    7: lambda q: (q[3], q[1], q[2], q[0]),
    8: lambda q: (q[1], q[3], q[0], q[2]),
}
"""EXIF 2.3, tag 0x0112: 6 is "row 0 right, column 0 top", and so on."""


def exif_of(orientation: object) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif.tobytes()


@kind("image: turned by its EXIF", 24)
def _turned(number: int, rng: random.Random) -> Item:
    form, orientation = FORMATS[number // 8], number % 8 + 1
    size = (WIDTH, HEIGHT) if orientation < 5 else (HEIGHT, WIDTH)
    data = saved(picture(), form, exif=exif_of(orientation))
    # The mask has no orientation; where the turn keeps the size, nobody knows which way it lies.
    ends = frozenset({"orientation_unclear"}) if orientation in (2, 3, 4) else ACCEPTED
    quarters = UPRIGHT[orientation](QUARTERS)
    return item("image: turned by its EXIF", data, ends, form=form, size=size, quarters=quarters)


@kind("image: broken EXIF", 48)
def _exif(number: int, rng: random.Random) -> Item:
    def block(*entries: bytes, count: int | None = None, follow: int = 0) -> bytes:
        head = b"Exif\0\0MM\0*\0\0\0\x08" + struct.pack(">H", len(entries) if count is None else count)
        return head + b"".join(entries) + struct.pack(">I", follow)

    broken = [
        b"Exif\0\0garbage", b"Exif\0\0", b"Exif\0\0MM\0*" + b"\xff" * 40, block(count=60_000),
        block(follow=8),
        block(struct.pack(">HHIHH", 0x0112, 3, 1, 77, 0)),
        block(struct.pack(">HHI4s", 0x0112, 2, 4, b"six\0")),
        block(struct.pack(">HHII", 0x8769, 4, 1, 8)), block(struct.pack(">HHII", 0x8769, 4, 1, 2**32 - 1)),
        block(struct.pack(">HHII", 0x010E, 2, 2**31, 8)), block(struct.pack(">HHII", 0x0112, 3, 0, 0)),
        block(struct.pack(">HHII", 0x0112, 5, 1, 0)), block(struct.pack(">HHII", 0x8825, 4, 1, 8), follow=8),
        block(struct.pack(">HHIf", 0x0112, 11, 1, float("nan"))), b"Exif\0\0II*\0\x08\0\0\0\xff\xff",
        b"Exif\0\0MM\0+" + bytes(30),
    ]  # fmt: skip
    form = FORMATS[number // 16]
    data = saved(picture(), form, exif=broken[number % 16])
    return item("image: broken EXIF", data, form=form, quarters=QUARTERS)


@kind("image: chance bits in its EXIF", 60)
def _exif_flipped(number: int, rng: random.Random) -> Item:
    form = FORMATS[number % 3]
    exif = flipped(exif_of(6), rng, 6, 1 << 20)
    # Any of the eight ways to turn may come of it: the mask fits the stored image, and is unclear for three.
    data = saved(picture(), form, exif=exif)
    ends = ACCEPTED | {"orientation_unclear"}
    return item("image: chance bits in its EXIF", data, ends, form=form)


@kind("image: huge EXIF, or a thumbnail in it", 6)
def _huge_exif(number: int, rng: random.Random) -> Item:
    thumbnail = saved(Image.new("RGB", (40, 30), "white"), "JPEG")
    bodies = [thumbnail, bytes(60_000), thumbnail * 20]
    body = bodies[number % 3] * (1 if number < 3 else 400)
    entries = struct.pack(">HHII", 0x0201, 4, 1, 38) + struct.pack(">HHII", 0x0202, 4, 1, len(body))
    exif = (
        b"Exif\0\0MM\0*\0\0\0\x08"
        + struct.pack(">HI", 0, 14)
        + struct.pack(">H", 2)
        + entries
        + bytes(4)
        + body
    )
    form = "JPEG" if len(exif) < 65_000 else "PNG" if number % 2 else "WEBP"
    return item(
        "image: huge EXIF, or a thumbnail in it",
        saved(picture(), form, exif=exif),
        form=form,
        quarters=QUARTERS,
    )


@kind("image: odd colour profiles", 24)
def _profiles(number: int, rng: random.Random) -> Item:
    """Profiles are not applied: the picture looks as its numbers say."""
    standard = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    wide = standard.replace(b"rXYZ", b"bXYZ", 1)
    profiles = [
        standard, wide, ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes(),
        ImageCms.ImageCmsProfile(ImageCms.createProfile("XYZ")).tobytes(), standard.replace(b"RGB ", b"CMYK"),
        standard[:100], b"not a profile", b"\xff" * 200_000,
    ]  # fmt: skip
    form = FORMATS[number % 3]
    data = saved(picture(), form, icc_profile=profiles[number // 3])
    return item("image: odd colour profiles", data, form=form, quarters=QUARTERS)


@kind("image: odd kinds of pixels, PNG", 24)
def _png_pixels(number: int, rng: random.Random) -> Item:
    name, there = "image: odd kinds of pixels, PNG", pixels()
    grey, wide = np.asarray(picture().convert("L")), there.astype(">u2") * 257
    header = (WIDTH, HEIGHT)
    alpha = np.full((HEIGHT, WIDTH, 1), 255, dtype=np.uint8)
    clear = np.zeros((HEIGHT, WIDTH, 1), dtype=np.uint8)
    white: Quarters = ((255, 255, 255),) * 4
    palette = picture().quantize(16)
    bright = (grey > 120).astype(np.uint8)
    one: Quarters = tuple((255 * (colour[0] > 120),) * 3 for colour in GREY)  # type: ignore[assignment]
    made: list[tuple[bytes, Quarters]] = [
        (png((*header, 16, 0), rows_of(grey.astype(">u2") * 257)), GREY),
        (png((*header, 16, 2), rows_of(wide)), QUARTERS),
        (png((*header, 16, 6), rows_of(np.dstack([wide, alpha.astype(">u2") * 257]))), QUARTERS),
        (png((*header, 16, 4), rows_of(np.dstack([grey.astype(">u2") * 257, alpha.astype(">u2") * 257]))), GREY),
        (png((*header, 8, 0), rows_of(grey)), GREY),
        (png((*header, 8, 4), rows_of(np.dstack([grey, alpha]))), GREY),
        (png((*header, 8, 4), rows_of(np.dstack([grey, clear]))), white),
        (png((*header, 8, 6), rows_of(np.dstack([there, alpha]))), QUARTERS),
        (png((*header, 8, 6), rows_of(np.dstack([there, clear]))), white),
        (png((*header, 1, 0), rows_of(np.packbits(bright, axis=1))), one),
        (png((*header, 4, 0), rows_of(grey[:, ::2] // 17 * 16 + grey[:, 1::2] // 17)), GREY),
        (saved(palette, "PNG"), QUARTERS), (saved(palette, "PNG", transparency=bytes(16)), white),
        (saved(palette, "PNG", transparency=b"\xff" * 16), QUARTERS),
        (saved(picture().convert("P"), "PNG"), QUARTERS),
        (saved(picture().convert("1"), "PNG"), GREY), (saved(picture().convert("LA"), "PNG"), GREY),
        (saved(Image.fromarray(grey.astype(np.uint16)), "PNG"), GREY),
        (saved(palette, "PNG", bits=4), QUARTERS),
        (with_chunks(chunk(b"gAMA", bytes(4))), QUARTERS),
        (with_chunks(chunk(b"gAMA", b"\0\0\xb1\x8f")), QUARTERS),
        (with_chunks(chunk(b"cHRM", bytes(32))), QUARTERS), (with_chunks(chunk(b"bKGD", bytes(6))), QUARTERS),
        (with_chunks(chunk(b"sBIT", b"\1\1\1")), QUARTERS),
    ]  # fmt: skip
    data, quarters = made[number]
    if number == 17:  # 16 bits that hold 0 to 255 of 65,535: black
        quarters = ((0, 0, 0),) * 4
    return item(name, data, quarters=None if number == 15 else quarters)  # 15 is dithered


@kind("image: odd kinds of pixels, JPEG and WebP", 14)
def _jpeg_pixels(number: int, rng: random.Random) -> Item:
    ink = picture().convert("CMYK")
    photo = saved(ink, "JPEG")
    adobe = photo.index(b"Adobe")
    without = photo[: adobe - 4] + photo[adobe + 12 :]
    white: Quarters = ((255, 255, 255),) * 4
    clear = picture().convert("RGBA")
    clear.putalpha(0)
    made: list[tuple[str, bytes, Quarters | None]] = [
        ("JPEG", photo, QUARTERS), ("JPEG", without, QUARTERS),
        ("JPEG", photo[: adobe + 11] + b"\2" + photo[adobe + 12 :], None),
        ("JPEG", saved(picture().convert("L"), "JPEG"), GREY),
        ("JPEG", saved(ink, "JPEG", progressive=True), QUARTERS),
        ("JPEG", saved(picture(), "JPEG", subsampling=2), QUARTERS),
        ("JPEG", saved(picture(), "JPEG", keep_rgb=True), QUARTERS),
        ("JPEG", saved(picture(), "JPEG", restart_marker_blocks=1), QUARTERS),
        ("JPEG", plain("JPEG", True), QUARTERS),
        ("JPEG", saved(picture(), "MPO", save_all=True, append_images=[Image.new("RGB", (8, 8))]), QUARTERS),
        ("WEBP", saved(picture(), "WEBP", quality=90), QUARTERS),
        ("WEBP", saved(clear, "WEBP", exact=True), white),
        ("WEBP", saved(picture().convert("L"), "WEBP"), GREY),
        ("JPEG", saved(picture(), "JPEG", comment=b"x" * 60_000), QUARTERS),
    ]  # fmt: skip
    form, data, quarters = made[number]
    return item("image: odd kinds of pixels, JPEG and WebP", data, form=form, quarters=quarters)


@kind("image: animated", 12)
def _animated(number: int, rng: random.Random) -> Item:
    frames = [picture(), picture().rotate(180), Image.new("RGB", (WIDTH, HEIGHT))]
    form = ["PNG", "WEBP", "GIF"][number % 3]
    if number < 6:
        data = saved(frames[0], form, save_all=True, append_images=frames[1 : 2 + number // 3], duration=40)
    elif number < 9:
        data = with_chunks(chunk(b"acTL", struct.pack(">II", [2**31 - 1, 2, 300_000][number % 3], 0)))
        form = "PNG"
    else:
        data = with_chunks(chunk(b"acTL", struct.pack(">II", number % 3 % 2, 0)) * (1 + number % 2))
        form = "PNG"
    ends = frozenset({"not_an_image"}) if form == "GIF" else frozenset({"animated"})
    if number >= 9:  # none or one frame, beside the still picture or instead of it
        ends = frozenset({"accepted", "damaged", "animated"})
    return item("image: animated", data, ends, form="PNG" if form == "GIF" else form)


@kind("image: odd sizes", 15)
def _sizes(number: int, rng: random.Random) -> Item:
    sizes = [
        (1, 1, "too_small"), (1, 50_000, "too_small"), (50_000, 1, "too_small"), (47, 64, "too_small"),
        (48, 48, "accepted"), (48, 144, "accepted"), (48, 145, "too_long"), (50_000, 50, "too_long"),
        (2_000, 60, "too_long"), (144, 48, "accepted"), (64, 64, "accepted"), (65, 64, "accepted"),
        (1_201, 1_200, "accepted"), (16, 16, "too_small"), (100, 51, "accepted"),
    ]  # fmt: skip
    width, height, end = sizes[number]
    size = (width, height) if end == "accepted" else (WIDTH, HEIGHT)
    data = saved(picture(width, height), "PNG", compress_level=1)
    return item("image: odd sizes", data, frozenset({end}), size=size, quarters=QUARTERS)


@kind("image: PNG chunks out of order", 20)
def _chunks(number: int, rng: random.Random) -> Item:
    (header, body, end), mark = (chunk(*one) for one in parts()), b"\x89PNG\r\n\x1a\n"
    content, rows = parts()[1][1], zlib.decompress(parts()[1][1])
    palette = chunk(b"PLTE", bytes(range(12)))
    many = b"".join(chunk(b"IDAT", content[at : at + 1]) for at in range(len(content)))
    bad_filter = b"".join(
        b"\5" + rows[at + 1 : at + 1 + 3 * WIDTH] for at in range(0, len(rows), 1 + 3 * WIDTH)
    )
    ends = PICTURE_ENDS
    made = [
        (mark + header + end, ends), (mark + body + header + end, ends), (mark + header + body, ends),
        (mark + header + header + body + end, ends), (mark + header + many + end, ACCEPTED),
        (mark + end, ends),
        (mark + header + body + body + end, ends), (mark + header + palette + body + end, ACCEPTED),
        (mark + header + chunk(b"ABCD", b"") + body + end, ends),
        (mark + header + b"\x7f\xff\xff\xffIDAT" + body, ends),
        (mark + header + b"\xff\xff\xff\xffIDAT" + body, ends),
        (png((WIDTH, HEIGHT, 8, 3), rows[: WIDTH * HEIGHT]), ends),
        (png((WIDTH, HEIGHT, 8, 2), bad_filter), ends),
        (png((WIDTH, HEIGHT, 8, 2), rows + bytes(1_000_000)), ends),
        (png((WIDTH, HEIGHT, 8, 2), b"not zlib at all", packed=True), ends), (png((0, 0, 8, 2), b""), ends),
        (png((WIDTH, HEIGHT, 3, 9), rows), ends), (png((WIDTH, HEIGHT, 8, 2, 0, 0, 1), rows), ends),
        (mark + header + body + end + b"PK\x03\x04 and more after the end" * 100, ACCEPTED),
        (mark + header + chunk(b"tRNS", bytes(5000)) + body + end, ends),
    ]  # fmt: skip
    data, right = made[number]
    return item("image: PNG chunks out of order", data, right)
