"""Decoding of images from outside: expected pixels are worked out by hand, and nothing crashes."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageFile

from actors.errors import Reject
from actors.images import decode_image, encode_image, encode_mask, fit, read_image, read_mask

Array = NDArray[np.uint8]


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, depth: int, colour: int, rows: bytes, *extra: bytes) -> bytes:
    """A PNG by the specification, without Pillow; `rows` with the filter byte before each."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    chunks = (chunk(b"IHDR", header), *extra, chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def blocks() -> Array:
    """uint8 [32, 48, 3]: six flat 16x16 blocks, none like another, so that turns show and JPEG keeps them."""
    colours = [[(200, 30, 40), (30, 190, 60), (40, 60, 210)], [(230, 220, 50), (20, 20, 25), (240, 240, 235)]]
    return np.array(colours, dtype=np.uint8).repeat(16, axis=0).repeat(16, axis=1)


def decoded(data: bytes) -> Array:
    image = decode_image(data)
    assert image.mode == "RGB"
    assert not image.info, "metadata would travel on into the shards"
    return np.asarray(image)


def reason(data: bytes) -> str:
    with pytest.raises(Reject) as caught:
        decode_image(data)
    assert caught.value.detail
    return caught.value.reason


PALETTE = chunk(b"PLTE", bytes([255, 0, 0, 0, 255, 0, 0, 0, 255]))


@pytest.mark.parametrize(
    ("data", "pixels"),
    [
        (png(2, 1, 8, 2, bytes([0, 1, 2, 3, 250, 251, 252])), [(1, 2, 3), (250, 251, 252)]),
        (png(2, 1, 8, 0, bytes([0, 7, 200])), [(7, 7, 7), (200, 200, 200)]),
        (png(2, 1, 4, 0, bytes([0, 0x3F])), [(51, 51, 51), (255, 255, 255)]),
        (png(8, 1, 1, 0, bytes([0, 0b10100001])), [(255 * int(bit),) * 3 for bit in "10100001"]),
        (png(2, 1, 16, 0, b"\0" + struct.pack(">HH", 1000, 40000)), [(4, 4, 4), (156, 156, 156)]),
        (png(2, 1, 16, 0, b"\0" + struct.pack(">HH", 0, 65535)), [(0, 0, 0), (255, 255, 255)]),
        (png(3, 1, 8, 3, bytes([0, 2, 0, 1]), PALETTE), [(0, 0, 255), (255, 0, 0), (0, 255, 0)]),
        (png(1, 1, 8, 2, bytes([0, 9, 8, 7])), [(9, 8, 7)]),
    ],
    ids=["rgb", "grey", "grey4", "1bit", "grey16", "grey16_ends", "palette", "1x1"],
)
def test_opaque_pngs_keep_their_values(data: bytes, pixels: list[tuple[int, int, int]]) -> None:
    assert decoded(data)[0].tolist() == [list(pixel) for pixel in pixels]


@pytest.mark.parametrize(
    ("data", "pixels"),
    [
        # value * alpha / 255 + 255 * (1 - alpha / 255)
        (png(3, 1, 8, 6, bytes([0, 10, 20, 30, 255, 10, 20, 30, 0, 0, 100, 200, 51])),
         [(10, 20, 30), (255, 255, 255), (204, 224, 244)]),
        (png(2, 1, 8, 4, bytes([0, 0, 102, 90, 255])), [(153, 153, 153), (90, 90, 90)]),
        (png(3, 1, 8, 3, bytes([0, 0, 1, 2]), PALETTE, chunk(b"tRNS", bytes([0, 51]))),
         [(255, 255, 255), (204, 255, 204), (0, 0, 255)]),
        (png(2, 1, 8, 3, bytes([0, 0, 1]), PALETTE, chunk(b"tRNS", bytes([0]))),
         [(255, 255, 255), (0, 255, 0)]),
        (png(2, 1, 8, 2, bytes([0, 1, 2, 3, 4, 5, 6]), chunk(b"tRNS", struct.pack(">HHH", 1, 2, 3))),
         [(255, 255, 255), (4, 5, 6)]),
        (png(2, 1, 8, 0, bytes([0, 7, 32]), chunk(b"tRNS", struct.pack(">H", 7))),
         [(255, 255, 255), (32, 32, 32)]),
        (png(2, 1, 16, 0, b"\0" + struct.pack(">HH", 1000, 1001), chunk(b"tRNS", struct.pack(">H", 1000))),
         [(255, 255, 255), (4, 4, 4)]),
    ],
    ids=["rgba", "la", "palette_alpha", "palette_one_clear", "rgb_key", "grey_key", "grey16_key"],
)  # fmt: skip
def test_transparency_is_laid_over_white(data: bytes, pixels: list[tuple[int, int, int]]) -> None:
    assert np.abs(decoded(data)[0].astype(int) - np.array(pixels)).max() <= 1


def test_jpeg_rgb_and_grey() -> None:
    there = blocks()
    data = saved(Image.fromarray(there), "JPEG", quality=95, subsampling=0)
    assert np.abs(decoded(data).astype(int) - there).max() <= 4
    grey = np.repeat(there[..., :1], 3, axis=2)
    data = saved(Image.fromarray(there[..., 0]), "JPEG", quality=95)
    assert np.abs(decoded(data).astype(int) - grey).max() <= 4


@pytest.mark.parametrize("adobe", [True, False], ids=["with_adobe_mark", "without"])
def test_jpeg_cmyk(adobe: bool) -> None:
    ink = np.zeros((16, 32, 4), dtype=np.uint8)
    ink[:, :16], ink[:, 16:] = (0, 200, 100, 40), (255, 30, 0, 120)
    data = saved(
        Image.fromarray(ink, "CMYK"), "JPEG", quality=98
    )  # Pillow writes the inverted values of Adobe
    if not adobe:
        at = data.index(b"\xff\xee")
        data = data[:at] + data[at + 2 + int.from_bytes(data[at + 2 : at + 4], "big") :]
    levels = 255 - ink.astype(float)
    expected = levels[..., :3] * levels[..., 3:] / 255
    assert np.abs(decoded(data) - expected).max() <= 4


TURNED = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: a.transpose(1, 0, 2)[:, ::-1],
    7: lambda a: a.transpose(1, 0, 2)[::-1, ::-1],
    8: lambda a: a.transpose(1, 0, 2)[::-1],
}
"""What brings stored rows upright. EXIF 2.3: 6 is "row 0 right, column 0 top", mended by a clockwise turn."""


@pytest.mark.parametrize("orientation", TURNED)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_exif_orientation(orientation: int, kind: str) -> None:
    there = blocks()
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"JPEG": {"quality": 95, "subsampling": 0}, "PNG": {}, "WEBP": {"lossless": True}}[kind]
    data = saved(Image.fromarray(there), kind, exif=exif, **options)
    assert decoded(data).shape == TURNED[orientation](there).shape
    assert np.abs(decoded(data).astype(int) - TURNED[orientation](there)).max() <= 4


def exif_block(*entries: bytes) -> bytes:
    return b"Exif\0\0MM\0*\0\0\0\x08" + struct.pack(">H", len(entries)) + b"".join(entries) + b"\0\0\0\0"


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    "exif",
    [
        b"Exif\0\0garbage",
        b"Exif\0\0MM\0*" + b"\xff" * 40,
        exif_block(struct.pack(">HHIHH", 0x0112, 3, 1, 77, 0)),
        exif_block(struct.pack(">HHI4s", 0x0112, 2, 4, b"six\0")),
        exif_block(struct.pack(">HHIf", 0x0112, 11, 1, 6.0)),
        exif_block(struct.pack(">HHII", 0x8769, 4, 1, 99999)),
        exif_block(struct.pack(">HHII", 0x010E, 2, 2**31, 8)),
    ],
)
def test_damaged_exif_leaves_the_image_as_it_is(exif: bytes) -> None:
    data = saved(Image.fromarray(blocks()), "JPEG", quality=95, subsampling=0, exif=exif)
    assert np.abs(decoded(data).astype(int) - blocks()).max() <= 4


@pytest.mark.parametrize(
    "damaged",
    [
        struct.pack(">HHII", 0x8769, 4, 1, 99999),
        struct.pack(">HHIi", 0x8769, 9, 1, -5),
        struct.pack(">HHI4s", 0x0111, 2, 4, b"abc\0"),
    ],
    ids=["pointer_behind_the_end", "negative_pointer", "text_for_a_number"],
)
def test_orientation_counts_beside_damaged_tags(damaged: bytes) -> None:
    """`PIL.ImageOps.exif_transpose` fails on the last two: it also writes the EXIF anew."""
    turn = struct.pack(">HHIHH", 0x0112, 3, 1, 6, 0)
    data = saved(Image.fromarray(blocks()), "JPEG", quality=95, exif=exif_block(turn, damaged))
    assert decoded(data).shape == (48, 32, 3)


def test_webp() -> None:
    there = blocks()
    assert (decoded(saved(Image.fromarray(there), "WEBP", lossless=True)) == there).all()
    lossy = decoded(saved(Image.fromarray(there), "WEBP", quality=95)).astype(int)
    assert np.abs(lossy[4:12, 4:12] - there[4:12, 4:12]).max() <= 6
    clear = np.dstack([there, np.full(there.shape[:2], 51, dtype=np.uint8)])
    over = decoded(saved(Image.fromarray(clear), "WEBP", lossless=True, exact=True)).astype(int)
    assert np.abs(over - (204 + there * 0.2)).max() <= 1


@pytest.mark.parametrize("kind", ["WEBP", "PNG"])
def test_animations_are_rejected(kind: str) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    assert reason(saved(frames[0], kind, save_all=True, append_images=frames[1:])) == "animated"


def test_a_phones_photo_with_further_frames_is_a_photo() -> None:
    photo, depth_map = Image.fromarray(blocks()), Image.new("RGB", (8, 8))
    data = saved(photo, "MPO", save_all=True, append_images=[depth_map], quality=95, subsampling=0)
    assert np.abs(decoded(data).astype(int) - blocks()).max() <= 4


@pytest.mark.parametrize("kind", ["GIF", "BMP", "TIFF", "ICO", "PPM"])
def test_other_formats_are_refused(kind: str) -> None:
    assert reason(saved(Image.new("RGB", (16, 16), "red"), kind)) == "not_an_image"


@pytest.mark.parametrize(
    "data", [b"hello, I am a text", b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"\0", b"RIFFxxxxWAVE"]
)
def test_what_is_no_image(data: bytes) -> None:
    assert reason(data) == "not_an_image"


def test_no_bytes() -> None:
    assert reason(b"") == "empty"


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("share", [0.02, 0.1, 0.5, 0.9, 0.97])
def test_truncated_files_are_damaged(kind: str, share: float) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    data = saved(Image.fromarray(noise), kind)
    assert reason(data[: max(16, int(len(data) * share))]) == "damaged"


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("side", [30_000, 10_000])
def test_too_many_pixels_are_never_decoded(side: int, monkeypatch: pytest.MonkeyPatch) -> None:
    data = png(side, side, 1, 0, bytes((side + 7) // 8 + 1) * side)
    assert len(data) < 200_000
    loads: list[object] = []
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda image: loads.append(image))
    assert reason(data) == "too_many_pixels"
    assert not loads


def test_the_limit_of_pixels_is_the_callers() -> None:
    data = png(4, 3, 8, 0, (b"\0" + bytes(4)) * 3)
    assert decode_image(data, largest_pixels=12).size == (4, 3)
    with pytest.raises(Reject) as caught:
        decode_image(data, largest_pixels=11)
    assert caught.value.reason == "too_many_pixels"
    assert "4 x 3" in caught.value.detail


def test_memory_errors_are_not_the_items(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise MemoryError

    for place in ("load", "getexif"):
        with monkeypatch.context() as patch:
            patch.setattr(ImageFile.ImageFile, place, fail, raising=False)
            with pytest.raises(MemoryError):
                decode_image(saved(Image.new("RGB", (4, 4)), "JPEG"))
    monkeypatch.setattr(Image, "open", fail)
    with pytest.raises(MemoryError):
        decode_image(b"\xff\xd8\xff")


PIXEL = (1, 1, 8, 2, bytes([0, 9, 8, 7]))


@pytest.mark.parametrize(
    ("extra", "ends"),
    [
        (chunk(b"tEXt", b"prompt\0" + b"a" * 5_000_000), None),
        (chunk(b"tEXt", b"prompt\0" + b"a" * 70_000_000), None),
        (chunk(b"zTXt", b"prompt\0\0" + zlib.compress(bytes(50_000_000))), None),
        (chunk(b"iCCP", b"profile\0\0" + zlib.compress(bytes(50_000_000))), None),
        (chunk(b"iTXt", b"prompt\0\1\0en\0prompt\0" + zlib.compress(bytes(2_000_000))), None),
        (chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(bytes(2_000_000))), "too_much_text"),
        (chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(bytes(2_000_000))), "too_much_text"),
        (chunk(b"iCCP", b"profile\0\0not zlib"), None),
        (chunk(b"eXIf", b"garbage"), None),
    ],
    ids=[
        "text",
        "huge_text",
        "text_bomb",
        "profile_bomb",
        "international",
        "raw_exif",
        "xmp",
        "broken_profile",
        "broken_exif",
    ],
)
def test_chunks_beside_the_pixels(extra: bytes, ends: str | None) -> None:
    if ends is None:
        assert decoded(png(*PIXEL, extra))[0, 0].tolist() == [9, 8, 7]
    else:
        assert reason(png(*PIXEL, extra)) == ends


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["PNG", "PALETTE", "JPEG", "CMYK", "WEBP", "MPO"])
def test_mutated_files_end_in_an_image_or_a_reject(kind: str) -> None:
    rng = np.random.default_rng(sum(kind.encode()))
    exif = Image.Exif()
    exif[0x0112] = 6
    image = Image.fromarray(blocks())
    whole = {
        "PNG": lambda: saved(image.convert("RGBA"), "PNG", exif=exif),
        "PALETTE": lambda: saved(image.quantize(16), "PNG", transparency=bytes([0, 90])),
        "JPEG": lambda: saved(image, "JPEG", exif=exif),
        "CMYK": lambda: saved(image.convert("CMYK"), "JPEG"),
        "WEBP": lambda: saved(image, "WEBP", exif=exif),
        "MPO": lambda: saved(image, "MPO", save_all=True, append_images=[image]),
    }[kind]()
    ends = {"image": 0, "reject": 0}
    for _ in range(120):
        data = bytearray(whole)
        for _ in range(int(rng.integers(1, 6))):
            # half of the flips hit the headers, where they do most
            at = int(rng.integers(len(data) if rng.random() < 0.5 else min(len(data), 200)))
            data[at] ^= 1 << int(rng.integers(8))
        if rng.random() < 0.3:
            del data[int(rng.integers(len(data))) :]
        try:
            image = decode_image(bytes(data), largest_pixels=4_000_000)
            assert image.mode == "RGB"
            ends["image"] += 1
        except Reject as why:
            assert why.reason in ("empty", "not_an_image", "too_many_pixels", "animated", "damaged")
            ends["reject"] += 1
    assert min(ends.values()) > 5, ends


def scans(count: int) -> bytes:
    """A progressive grey JPEG whose last scan, which refines nothing more, is there again and again."""
    whole = saved(Image.new("L", (32, 32), 99), "JPEG", progressive=True)
    at = whole.rindex(b"\xff\xda")
    first = whole.count(b"\xff\xda") - 1
    return whole[:at] + whole[at:-2] * (count - first) + whole[-2:]


def test_a_jpeg_of_very_many_scans_is_never_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    assert decode_image(scans(100)).getpixel((5, 5)) == (99, 99, 99)
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda image: pytest.fail("it was decoded"))
    assert reason(scans(101)) == "too_many_scans"


def test_only_scans_are_counted() -> None:
    """Not what looks like one in a thumbnail, a profile, or a film after the image's end."""
    there = Image.fromarray(blocks())
    looks = b"\xff\xda" * 5000
    data = saved(there, "JPEG", exif=b"Exif\0\0" + looks, icc_profile=looks * 3, comment=looks) + looks * 100
    assert decode_image(data).size == (48, 32)


def test_what_is_encoded_holds_no_metadata() -> None:
    photo = Image.fromarray(blocks())
    photo.info = {"icc_profile": b"a profile for inks", "transparency": (1, 2, 3), "dpi": (72, 72)}
    data = encode_image(photo)
    kinds, at = [], 8
    while at < len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        kinds.append(data[at + 4 : at + 8])
        at += 12 + length
    assert set(kinds) == {b"IHDR", b"IDAT", b"IEND"}
    assert photo.info["icc_profile"], "the caller's image is left alone"
    assert (read_image(data) == blocks()).all()


def test_masks_are_kept_bit_by_bit() -> None:
    mask = np.random.default_rng(1).random((13, 21)) < 0.4
    data = encode_mask(mask)
    assert data[24:26] == b"\x01\x00", "one bit, grey"
    assert (read_mask(data) == mask).all()


@pytest.mark.parametrize(("height", "width"), [(4, 6), (6, 4), (4, 7), (4, 4)])
def test_fit_takes_the_centred_square(height: int, width: int) -> None:
    there = np.arange(height * width, dtype=np.uint8).reshape(height, width)
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = there[top : top + side, left : left + side]
    assert (np.asarray(fit(Image.fromarray(there), side, smooth=False)) == square).all()
    doubled = np.asarray(fit(Image.fromarray(there), 2 * side, smooth=False))
    assert (doubled == square.repeat(2, axis=0).repeat(2, axis=1)).all()


def test_no_bytes_of_a_file_are_in_a_message() -> None:
    """A file that a recipe reaches by mistake may be a private one, and messages are published with the data set."""
    wholes = [saved(Image.fromarray(blocks()), kind) for kind in ("PNG", "JPEG", "WEBP")]
    files = [b"SECRET", b"SECRET\0\xff" * 99, b"<html>SECRET", b"GIF89aSECRET", b"", b"PK\3\4SECRET"]
    for whole in wholes:
        for place in (4, 8, 12, 16, 20, 30, len(whole) // 2, len(whole) - 12):
            files += [whole[:place] + b"SECRET" * 9 + whole[place:], whole[:place] + b"SECRET" * 9]
    refused = 0
    for data in files:
        try:
            decode_image(data)
        except Reject as why:
            refused += 1
            assert "SEC" not in why.detail
            assert "CRET" not in why.detail
            assert len(why.detail) < 400
    assert refused > 20
