"""Masks from outside are read as they are meant, or refused with mode and levels; the disc is the truth."""

from __future__ import annotations

import io
import random
import re
import struct
import zlib
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from actors.batch import Sample
from actors.errors import Reject
from actors.image_selector import ImageSelector
from actors.images import decode, encode_image, encode_mask, read_mask
from actors.masks import Mask, MaskReading, decode_mask
from actors.selection_config import SelectionConfig
from tests.actors.test_images import TURNED, chunk, png, saved
from tests.mutations import masks

SIDE = 64
ROWS, COLUMNS = np.mgrid[:SIDE, :SIDE]
DISC = (ROWS - 31.5) ** 2 + (COLUMNS - 31.5) ** 2 <= 14**2
RIM = (np.minimum(ROWS, COLUMNS) == 0) | (np.maximum(ROWS, COLUMNS) == SIDE - 1)
PHOTO = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
ONES = DISC.astype(np.uint8)
GREY = ONES * 255
WITH_RIM = np.where(RIM, np.uint8(255), ONES)


LIMITS = SelectionConfig(smallest_side=1, largest_pixels=10**6)


def read(data: bytes, reading: MaskReading | None = None, **about: object) -> Mask:
    return decode_mask(data, reading or MaskReading(), **{"size": (SIDE, SIDE), **about})  # type: ignore[arg-type]


def refused(data: bytes, reading: MaskReading | None = None, **about: object) -> tuple[str, str]:
    with pytest.raises(Reject) as caught:
        read(data, reading, **about)
    return caught.value.reason, caught.value.detail


def as_png(levels: NDArray[np.generic], **options: object) -> bytes:
    return saved(Image.fromarray(levels), "PNG", **options)


def palette(indices: NDArray[np.uint8], *colours: int, **options: object) -> bytes:
    image = Image.fromarray(indices, "P")
    first = bytes(colours or (255, 255, 255, 0, 0, 0))
    image.putpalette(first.ljust(768, b"\x80"))  # whole, or Pillow writes as few bits as its palette needs
    return saved(image, "PNG", **options)


def raw(levels: NDArray[np.generic], bits: int, colour: int, *extra: bytes) -> bytes:
    """A PNG by the specification: big-endian samples, rows without filters."""
    if bits < 8:
        pixels = 8 // bits
        parts = levels.reshape(len(levels), -1, pixels).astype(np.uint8)
        levels = sum(parts[..., place] << (8 - bits * (place + 1)) for place in range(pixels))  # type: ignore[assignment]
    rows = b"".join(b"\0" + row.tobytes() for row in levels)
    return png(SIDE, SIDE, bits, colour, rows, *extra)


def drawn(method: Image.Resampling) -> bytes:
    """The disc with soft edges: drawn eight times as large, and reduced."""
    rows, columns = np.mgrid[: 8 * SIDE, : 8 * SIDE]
    centre, radius = 4 * SIDE - 0.5, 8 * 14.25
    large = ((rows - centre) ** 2 + (columns - centre) ** 2 <= radius**2).astype(np.uint8) * 255
    return saved(Image.fromarray(large).resize((SIDE, SIDE), method), "PNG")


HALF = ONES.astype(np.uint16)
EXACT = {
    "0 and 1": as_png(ONES),
    "0 and 255": as_png(GREY),
    "1 bit": as_png(DISC),
    "2 bits, 0 and 1": raw(ONES, 2, 0),
    "2 bits, 0 and 3": raw(ONES * 3, 2, 0),
    "4 bits, 0 and 1": raw(ONES, 4, 0),
    "4 bits, 0 and 15": raw(ONES * 15, 4, 0),
    "16 bits, 0 and 1": as_png(HALF),
    "16 bits, 0 and 255": as_png(HALF * 255),
    "16 bits, 0 and 65535": as_png(HALF * 65535),
    "palette, black inside": palette(ONES),
    "palette, one colour": palette(ONES, 7, 7, 7, 7, 7, 7),
    "palette of 4 bits": palette(ONES, bits=4),
    "RGB of 1": as_png(np.repeat(ONES[..., None], 3, axis=2)),
    "RGB of 255": as_png(np.repeat(GREY[..., None], 3, axis=2)),
    "RGBA, opaque": saved(Image.fromarray(GREY).convert("RGBA"), "PNG"),
    "LA, opaque": saved(Image.fromarray(GREY).convert("LA"), "PNG"),
    "a transparent level that no pixel has": as_png(ONES, transparency=77),
    "WebP": saved(Image.fromarray(GREY), "WEBP", lossless=True),
    "a colour profile that is not applied": as_png(GREY, icc_profile=b"x" * 99),
}


@pytest.mark.parametrize("form", EXACT)
def test_exact_masks_are_the_disc(form: str):
    mask = read(EXACT[form])
    assert (mask.inside == DISC).all() and mask.ignored is None


SOFT = {
    **{f"JPEG {quality}": saved(Image.fromarray(GREY), "JPEG", quality=quality) for quality in (30, 75, 95, 100)},
    "JPEG in RGB": saved(Image.fromarray(GREY).convert("RGB"), "JPEG", quality=60),
    "JPEG made a PNG": saved(Image.open(io.BytesIO(saved(Image.fromarray(GREY), "JPEG", quality=90))), "PNG"),
    "lossy WebP": saved(Image.fromarray(GREY), "WEBP", quality=60),
    **{f"reduced by {method.name}": drawn(method) for method in (Image.Resampling.BOX, Image.Resampling.LANCZOS)},
    "16 bits": as_png(np.asarray(Image.open(io.BytesIO(drawn(Image.Resampling.BOX)))).astype(np.uint16) * 257),
}  # fmt: skip


@pytest.mark.parametrize("form", SOFT)
def test_soft_edges_are_cut_at_half(form: str):
    inside = read(SOFT[form]).inside
    wrong = inside != DISC
    edge = np.abs(np.hypot(ROWS - 31.5, COLUMNS - 31.5) - 14) < 1.5
    assert not (wrong & ~edge).any() and wrong.mean() < 0.01


REFUSED = {
    "a rim of 255": (as_png(WITH_RIM), "of mode L with the levels 0 (78.8%), 1 (15.0%), 255 (6.2%)"),
    "a rim of 65535": (as_png(np.where(RIM, np.uint16(65535), HALF)), "I;16 with 16 bits with the levels 0"),
    "a rim in a palette": (palette(WITH_RIM), "of mode P with the levels 0 (78.8%), 1 (15.0%), 255 (6.2%)"),
    "class numbers": (as_png(ONES * 2 + RIM), "levels 0 (78.8%), 1 (6.2%), 2 (15.0%)"),
    "low class numbers and an ignored rim": (as_png(np.where(RIM, np.uint8(255), ONES * 2 + (ROWS < 8))), "2 (15"),
    "a high class number and a rim": (as_png(np.where(RIM, np.uint8(255), ONES * 155)), "155 (15.0%), 255"),
    "a trimap": (as_png(np.where(RIM, np.uint8(128), GREY)), "128 (6.2%), 255"),
    "0 and 127": (as_png(ONES * 127), "levels 0 (85.0%), 127 (15.0%)"),
    "0 and 128": (as_png(ONES * 128), "levels 0 (85.0%), 128 (15.0%)"),
    "0 and 254": (as_png(ONES * 254), "254 (15.0%)"),
    "votes of three people": (as_png(np.select([DISC, RIM], [np.uint8(170), np.uint8(85)]) + GREY // 3), "85 (6.2%)"),
    "16 bits, 0 and 257": (as_png(HALF * 257), "257 (15.0%)"),
    "2 bits, 0 and 2": (raw(ONES * 2, 2, 0), "with 2 bits with the levels 0 (85.0%), 2 (15.0%)"),
    "palette, 0 and 255": (palette(GREY), "of mode P with the levels 0 (85.0%), 255 (15.0%)"),
    "a photo": (as_png(PHOTO), "a PNG of mode RGB with colours such as"),
    "a grey photo": (as_png(PHOTO[..., 0]), "of mode L with the levels 0"),
    "a JPEG photo": (saved(Image.fromarray(PHOTO), "JPEG"), "a JPEG of mode RGB with colours"),
    "a heat map": (as_png((255 * np.exp(-((ROWS - 31.5) ** 2 + (COLUMNS - 31.5) ** 2) / 300)).round().astype(np.uint8)),
                   "levels"),
    "one red channel": (as_png(np.dstack([GREY, GREY * 0, GREY * 0])), "colours such as (255, 0, 0)"),
    "a photo with a hole": (as_png(np.dstack([PHOTO, 255 - GREY])), "mode RGBA with transparent pixels (alpha from 0)"),
    "a hole in LA": (as_png(np.dstack([GREY, 255 - GREY])), "mode LA with transparent pixels"),
    "a transparent level": (as_png(GREY, transparency=255), "mode L with transparent pixels"),
    "a transparent index": (palette(ONES, transparency=0), "mode P with transparent pixels"),
    "16-bit RGB of 0 and 1": (raw(np.repeat(HALF.astype(">u2")[..., None], 3, axis=2), 16, 2), "mode RGB with 16 bits"),
    "CMYK": (saved(Image.fromarray(PHOTO).convert("CMYK"), "JPEG"), "a JPEG of mode CMYK"),
    "a rim in a JPEG": (saved(Image.fromarray(WITH_RIM), "JPEG", quality=100), "a JPEG of mode L with the levels 0"),
    "0 and 1 in a JPEG": (saved(Image.fromarray(ONES), "JPEG", quality=100), "a JPEG of mode L with the levels 0"),
}  # fmt: skip


@pytest.mark.parametrize("form", REFUSED)
def test_unclear_masks_are_refused_with_mode_and_levels(form: str):
    data, message = REFUSED[form]
    reason, detail = refused(data)
    assert reason == "bad_mask" and message in detail, detail
    assert len(detail) < 400


@pytest.mark.parametrize("level", [0, 255])
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_masks_of_one_level(kind: str, level: int):
    data = saved(Image.new("L", (SIDE, SIDE), level), kind, **({"lossless": True} if kind == "WEBP" else {}))
    assert (read(data).inside == (level == 255)).all()


@pytest.mark.parametrize(
    ("data", "index"),
    [
        (as_png(WITH_RIM), 255),
        (palette(WITH_RIM), 255),
        (as_png(np.where(RIM, np.uint16(65535), HALF)), 65535),
        (as_png(np.where(RIM, np.uint16(255), HALF)), 255),
        (as_png(np.where(RIM, np.uint8(128), GREY)), 128),
        (as_png(np.where(RIM, np.uint8(2), ONES)), 2),
        (raw(np.where(RIM, np.uint8(3), ONES), 2, 0), 3),
        (saved(Image.fromarray(WITH_RIM), "WEBP", lossless=True), 255),
    ],
)
def test_an_ignored_index_is_neither_inside_nor_outside(data: bytes, index: int):
    mask = read(data, MaskReading(ignore_index=index))
    assert (mask.inside == DISC).all()
    assert mask.ignored is not None and (mask.ignored == RIM).all()


def test_an_ignored_index_that_no_pixel_has_changes_nothing():
    mask = read(as_png(ONES), MaskReading(ignore_index=255))
    assert (mask.inside == DISC).all() and mask.ignored is None
    assert (read(as_png(ONES), MaskReading(ignore_index=60_000)).inside == DISC).all()
    for kind in ("JPEG", "WEBP"):
        reason, detail = refused(saved(Image.fromarray(GREY), kind), MaskReading(ignore_index=255))
        assert reason == "bad_mask" and kind in detail and "exact" in detail


HOLE = as_png(np.dstack([PHOTO, 255 - GREY]))


@pytest.mark.parametrize(
    ("data", "alpha"),
    [
        (HOLE, "transparent"),
        (as_png(np.dstack([PHOTO, GREY])), "opaque"),
        (as_png(np.dstack([GREY, GREY, GREY, PHOTO[..., 0]])), "ignore"),
        (as_png(np.dstack([GREY, PHOTO[..., 0]])), "ignore"),
        (palette(ONES, transparency=0), "opaque"),
        (palette(ONES, transparency=1), "transparent"),
        (palette(ONES, transparency=bytes([10, 200])), "ignore"),
        (as_png(GREY, transparency=255), "transparent"),
        (raw(ONES * 3, 2, 0, chunk(b"tRNS", struct.pack(">H", 3))), "transparent"),
        (as_png(DISC, transparency=255), "transparent"),
        (as_png(HALF, transparency=1), "transparent"),
        (raw(np.where(DISC[..., None], [1, 2, 3], [1, 2, 4]).astype(np.uint8), 8, 2,
             chunk(b"tRNS", struct.pack(">HHH", 1, 2, 3))), "transparent"),
        (saved(Image.fromarray(np.dstack([PHOTO, 255 - GREY])), "WEBP", lossless=True, exact=True), "transparent"),
    ],
)  # fmt: skip
def test_transparency_counts_as_it_is_set(data: bytes, alpha: str):
    assert (read(data, MaskReading(alpha=alpha)).inside == DISC).all()  # type: ignore[arg-type]
    assert refused(data)[0] == "bad_mask"


@pytest.mark.parametrize("bits", [2, 4, 8, 16])
def test_the_depth_is_known_where_other_chunks_come_first(bits: int):
    """Pillow reads a PNG whose header is not its first chunk."""
    data = raw(ONES * np.uint16((1 << bits) - 1) if bits > 8 else ONES * ((1 << bits) - 1), bits, 0)
    data = (
        data[:8] + chunk(b"tEXt", b"key\0" + b"a long text, in which the depth would be read" * 2) + data[8:]
    )
    assert (read(data).inside == DISC).all()


def test_transparency_is_not_read_as_class_numbers():
    ghostly = as_png(np.dstack([PHOTO, ONES]))
    assert refused(ghostly, MaskReading(alpha="opaque"))[0] == "bad_mask"
    assert "with colours" in refused(HOLE, MaskReading(alpha="ignore"))[1]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "mask_empty"),
        (b"not an image", "mask_not_an_image"),
        (as_png(GREY)[:80], "mask_damaged"),
        (as_png(GREY[:, :63]), "mask_size"),
        (saved(Image.fromarray(GREY), "TIFF"), "mask_not_an_image"),
        (saved(Image.fromarray(GREY), "PNG", save_all=True, append_images=[Image.new("L", (64, 64))]), "mask_animated"),
        (raw(ONES, 8, 0, chunk(b"tRNS", b"\1")), "mask_damaged"),
    ],
)  # fmt: skip
def test_what_is_no_mask(data: bytes, reason: str):
    assert refused(data)[0] == reason


@pytest.mark.parametrize("extra", [chunk(b"tRNS", struct.pack(">H", 60_000)), chunk(b"tRNS", bytes(600))])
def test_transparency_beyond_the_levels_is_no_crash(extra: bytes):
    assert (read(raw(ONES, 8, 0, extra), MaskReading(alpha="ignore")).inside == DISC).all()
    for alpha in ("opaque", "transparent", "refuse"):
        try:
            read(raw(ONES, 8, 0, extra), MaskReading(alpha=alpha))  # type: ignore[arg-type]
        except Reject as why:
            assert why.reason in ("bad_mask", "mask_damaged")


def exif(orientation: int) -> Image.Exif:
    block = Image.Exif()
    block[0x0112] = orientation
    return block


CORNER = np.zeros((SIDE, SIDE), np.uint8)
CORNER[4:20, 4:36] = 255
"""A region that no turn leaves where it is."""

PAINTED = np.repeat(CORNER[..., None], 3, axis=2)
KINDS = {"JPEG": {"quality": 95}, "PNG": {}, "WEBP": {"lossless": True}}


@pytest.mark.parametrize("orientation", range(2, 9))
@pytest.mark.parametrize("kind", KINDS)
def test_a_square_turned_image_with_a_plain_mask_is_unclear(kind: str, orientation: int):
    selector = ImageSelector(LIMITS, size=SIDE)
    image = saved(Image.fromarray(PAINTED), kind, exif=exif(orientation), **KINDS[kind])
    sample = selector(Sample("a", "a"), image, as_png(CORNER))
    assert sample.reason == "orientation_unclear" and f"orientation {orientation}" in sample.detail
    upright = TURNED[orientation](PAINTED)[..., 0] > 0
    for setting, mask in (("stored", CORNER), ("displayed", upright.astype(np.uint8) * 255)):
        selector.masks = MaskReading(orientation=setting)  # type: ignore[arg-type]
        sample = selector(Sample("a", "a"), image, as_png(mask))
        assert not sample.rejected and sample.mask is not None
        assert (read_mask(sample.mask) == upright).all()
    selector.masks = MaskReading()  # a mask with an orientation of its own is clear
    sample = selector(Sample("a", "a"), image, as_png(CORNER, exif=exif(orientation)))
    assert sample.mask is not None and (read_mask(sample.mask) == upright).all()
    sample = selector(Sample("a", "a"), image, as_png(upright.astype(np.uint8), exif=exif(1)))
    assert sample.mask is not None and (read_mask(sample.mask) == upright).all()


@pytest.mark.parametrize("kind", KINDS)
def test_an_orientation_in_xmp_counts_too(kind: str):
    """Editors write it there; Pillow reads it where EXIF has none."""
    xmp = (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/></rdf:RDF></x:xmpmeta>'
    )
    image, text = Image.fromarray(PAINTED), PngInfo()
    text.add_itxt("XML:com.adobe.xmp", xmp)
    about = {"pnginfo": text} if kind == "PNG" else {"xmp": xmp.encode()}
    selector = ImageSelector(LIMITS, size=SIDE)
    sample = selector(Sample("a", "a"), saved(image, kind, **about, **KINDS[kind]), as_png(CORNER))
    assert sample.reason == "orientation_unclear" and "orientation 6" in sample.detail


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_sizes_of_a_turned_image_tell_where_they_can(orientation: int):
    stored = CORNER[:48]
    upright = TURNED[orientation](np.repeat(stored[..., None], 3, axis=2))[..., 0]
    decoded = decode(
        saved(Image.fromarray(np.repeat(stored[..., None], 3, axis=2)), "PNG", exif=exif(orientation))
    )
    about = {"size": decoded.size, "orientation": decoded.orientation}
    assert decoded.size == upright.shape[::-1]
    if orientation in (2, 3, 4):
        assert refused(as_png(stored), **about)[0] == "orientation_unclear"
    else:
        assert (read(as_png(stored), **about).inside == (upright > 0)).all()
        assert (read(as_png(upright), **about).inside == (upright > 0)).all()
    if orientation >= 5:
        assert refused(as_png(stored), MaskReading(orientation="displayed"), **about)[0] == "mask_size"
        assert refused(as_png(upright), MaskReading(orientation="stored"), **about)[0] == "mask_size"
    assert refused(as_png(CORNER), **about)[0] == "mask_size"


def test_an_ignored_rim_turns_with_its_mask():
    levels = np.where(COLUMNS < 3, np.uint8(255), CORNER // 255)
    mask = read(as_png(levels), MaskReading(ignore_index=255, orientation="stored"), orientation=6)
    assert mask.ignored is not None
    assert (mask.ignored == np.rot90(COLUMNS < 3, -1)).all() and (
        mask.inside == np.rot90(CORNER > 0, -1)
    ).all()


@pytest.mark.parametrize("value", [0, 9, 77])
def test_an_invalid_orientation_counts_as_none(value: int):
    decoded = decode(saved(Image.fromarray(PAINTED), "PNG", exif=exif(value)))
    assert decoded.orientation == 1
    assert (read(as_png(CORNER, exif=exif(value)), orientation=6, reading=MaskReading(orientation="displayed")).inside
            == (CORNER > 0)).all()  # fmt: skip


def test_what_is_ignored_is_no_region():
    selector = ImageSelector(LIMITS, size=32, masks=MaskReading(ignore_index=255))
    sample = selector(Sample("a", "a"), encode_image(PHOTO), as_png(WITH_RIM))
    assert sample.mask is not None
    assert (read_mask(sample.mask) == DISC[1::2, 1::2]).all()


def test_a_large_mask_has_its_levels_counted_everywhere():
    """Beyond the first of the strips in which it is read."""
    height, width = 3000, 4000
    levels = np.zeros((height, width), np.uint8)
    levels[:100] = 255
    assert (read(as_png(levels, compress_level=1), size=(width, height)).inside == (levels > 0)).all()
    levels[-3:, -3:], levels[-9, -9] = 100, 101
    reason, detail = refused(as_png(levels, compress_level=1), size=(width, height))
    assert reason == "bad_mask" and re.search(r"100 \(0\.0%\)", detail)


def test_text_that_is_too_long_does_not_hide_the_orientation():
    stored = saved(Image.fromarray(PAINTED), "PNG", exif=exif(6))
    bomb = chunk(b"zTXt", b"prompt\0\0" + zlib.compress(bytes(2_000_000)))
    assert decode(stored[:33] + bomb + stored[33:]).orientation == 6
    assert decode(stored[:-12] + bomb + stored[-12:]).orientation == 6, "also behind the pixels"


@pytest.mark.parametrize("form", masks.FORMS)
def test_what_tools_write_is_read_as_it_is_meant_or_refused(form: Callable[[random.Random], masks.Meant]):
    ends = Counter[str]()
    for seed in range(150):
        made = form(random.Random(f"{form.__name__} {seed}"))
        size = made.inside.shape[::-1]
        try:
            found = decode_mask(made.data, made.reading, size=size)  # type: ignore[arg-type]
        except Reject as why:
            assert why.reason in made.ends, (seed, why.detail)
            ends[why.reason] += 1
            continue
        assert "accepted" in made.ends, (seed, made)
        assert masks.agree(found.inside, made.inside, made.soft), seed
        assert (found.ignored is None) == (made.ignored is None)
        assert found.ignored is None or (found.ignored == made.ignored).all()
        ends["accepted"] += 1
    assert sum(ends.values()) == 150


def test_our_own_masks_state_their_ignored_level():
    """Inside, where both are; the reader needs no setting, and a setting of another level is obeyed."""
    unknown = DISC | RIM
    data = encode_mask(DISC, unknown)
    mask = decode_mask(data, MaskReading(), size=(SIDE, SIDE))
    assert np.array_equal(mask.inside, DISC) and np.array_equal(read_mask(data), DISC)
    assert mask.ignored is not None and np.array_equal(mask.ignored, RIM)
    with pytest.raises(Reject, match=r"127 \("):
        decode_mask(data, MaskReading(ignore_index=3), size=(SIDE, SIDE))
    assert encode_mask(DISC, DISC) == encode_mask(DISC) == encode_mask(DISC, np.zeros_like(DISC))


def test_a_level_that_no_text_states_is_no_ignored_one():
    levels = np.where(DISC, 255, np.where(RIM, 127, 0)).astype(np.uint8)
    for text in (None, "126", "255", "x"):
        info = PngInfo()
        if text:
            info.add_text("ignored level", text)
        stream = io.BytesIO()
        Image.fromarray(np.kron(levels, np.ones((4, 4), np.uint8))).save(stream, "PNG", pnginfo=info)
        with pytest.raises(Reject, match="the mask is"):
            decode_mask(stream.getvalue(), MaskReading(), size=(4 * SIDE, 4 * SIDE))
