"""Image files from outside, decoded as they are stored, with limits on pixels, scans, text and memory."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from PIL import Image, UnidentifiedImageError

from actors.errors import Reject

FORMATS = ("PNG", "JPEG", "WEBP")
JPEG = ("JPEG", "MPO")
"""Pillow's names; MPO is a phone's JPEG whose further frames are depth or brightness maps."""

LARGEST_PIXELS = 64_000_000
MOST_SCANS = 100
"""Of a JPEG. Progressive ones have about 10, each goes over all pixels, and one of 20 bytes may take a second."""

MOST_MEMORY = 400_000_000
"""Bytes that decoding one file may take, beside the file itself."""

LARGE = 24_000_000
"""Pixels above which an image is reduced while it is decoded, where far fewer are needed."""

_GAP = 2
"""It is reduced by whole numbers while its shorter side stays at least this many times what is needed."""

TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What brings a stored image upright, by its EXIF orientation (EXIF 2.3, tag 0x0112); 1 is upright."""

_ORIENTATION = 0x0112
_BEGINNING = re.compile(rb"\x89PNG\r\n\x1a\n|\xff\xd8\xff|RIFF.{4}WEBP", re.DOTALL)
_OTHERS = {
    b"GIF8": "a GIF",
    b"II*\0": "a TIFF",
    b"MM\0*": "a TIFF",
    b"BM": "a BMP",
    b"%PDF": "a PDF",
    b"PK\3\4": "a zip archive",
    b"\x1f\x8b": "gzip",
    b"<": "HTML or XML, such as a server's error page",
    b"version https://git-lfs": "a Git LFS pointer: run git lfs pull",
}
"""Kinds of files that are not images, by their first bytes. The bytes are not shown: a file may be private."""

_LONGEST_CAUSE = 200
_MARKER = re.compile(rb"\xff([^\x00\x01\xd0-\xd8\xff])", re.DOTALL)
"""Of a JPEG, followed by a length; not those that stand alone, nor an escaped 255 in the pixels."""

_FRAMES = {bytes([code]) for code in range(0xC0, 0xD0)} - {b"\xc4", b"\xc8", b"\xcc"}
"""Markers that begin a JPEG's frame (ITU T.81, table B.1): it lists the components with their sampling."""

_BYTES = {"1": 1, "L": 1, "P": 1, "I;16": 2}
"""Per pixel of a decoded image in Pillow; all other modes take 4."""

_WEBP_BYTES = 12
"""Per pixel, beside the image: the two canvases of libwebp's animation decoder, and Pillow's copy of one."""

_TEXT = (b"tEXt", b"zTXt", b"iTXt", b"iCCP")
_MAY_TURN = (b"XML:com.adobe.xmp\0", b"Raw profile type exif\0", b"Raw profile type APP1\0")
"""Keywords of PNG text that may hold an orientation."""


@dataclass(frozen=True)
class Loaded:
    """A decoded file.

    Attributes:
        image: as it is stored, neither turned nor converted; smaller than `size` if the decoder reduced it.
        size: width and height in the file.
        orientation: 1 to 8 as the file's EXIF states it; None without a valid tag.
        reduction: factor by which the sides of `image` should still be reduced, see `load_image`.
        bits: per sample in the file.
        lossy: whether its compression changes levels: JPEG, and WebP unless it is lossless.
    """

    image: Image.Image
    size: tuple[int, int]
    orientation: int | None
    reduction: int
    bits: int
    lossy: bool


class _TooMuchTextError(Exception):
    """Pillow refuses to decompress the text or the colour profile of a PNG."""


def load_image(data: bytes, *, largest_pixels: int = LARGEST_PIXELS, needed: int | None = None) -> Loaded:
    """Decodes a file from outside.

    Args:
        data: an encoded PNG, JPEG or WebP file.
        largest_pixels: width times height above which the file is not decoded.
        needed: side of the square that is made of the image. Of more than `LARGE` pixels, it may then be reduced:
            a JPEG is in its decoder, by up to 8; None never reduces.

    Raises:
        Reject: `empty`, `not_an_image`, `too_many_pixels`, `too_many_scans`, `too_much_text`, `animated` or
            `damaged`.
        MemoryError: the machine's fault, not the item's.
    """
    try:
        return _load(data, largest_pixels, needed)
    except _TooMuchTextError:
        pass
    try:
        return _load(_without_text(data), largest_pixels, needed)
    except _TooMuchTextError as error:
        raise Reject(
            "too_much_text",
            f"the text that may hold the image's orientation is too long ({error}); remove it from the PNG",
        ) from None


@contextmanager
def decoding() -> Iterator[None]:
    """Rejects as `damaged` where Pillow fails on a truncated or damaged file."""
    try:
        yield
    except (MemoryError, Reject):
        raise
    except Exception as error:  # OSError, SyntaxError, zlib.error, struct.error, ...
        _check_text(error)
        raise Reject("damaged", f"the image cannot be decoded: {_cause(error)}") from None


def check_memory(image: Image.Image, more: float, size: tuple[int, int] | None = None) -> None:
    """Rejects an image that takes more than `MOST_MEMORY` bytes.

    Args:
        image: as it is decoded.
        more: bytes that are taken beside it, per pixel.
        size: what to count pixels of and to name, where it is not the image's.
    """
    width, height = size or image.size
    needed = int(image.width * image.height * _bytes_of(image) + width * height * more)
    if needed > MOST_MEMORY:
        raise Reject(
            "too_many_pixels",
            f"{width} x {height} pixels of mode {image.mode} take {needed / 1e6:,.0f} MB to decode; at most "
            f"{MOST_MEMORY / 1e6:,.0f} MB are spent on one image: make it smaller",
        )


def _load(data: bytes, largest_pixels: int, needed: int | None) -> Loaded:
    image = _open(data, largest_pixels)
    width, height = size = image.size
    if width * height > largest_pixels:
        raise Reject(
            "too_many_pixels",
            f"{width} x {height} is {width * height:,} pixels; at most {largest_pixels:,} are decoded",
        )
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format not in JPEG:
        raise Reject("animated", f"the file holds {frames} frames; a single picture is wanted")
    reduction, more = _reduction(size, needed), 0.0
    if image.format in JPEG:
        more = _coefficients(data)
        if reduction > 1:
            image.draft(None, (width // reduction, height // reduction))
            reduction = max(1, reduction * image.width // width)
    elif image.format == "WEBP":
        more = _WEBP_BYTES
    check_memory(image, more, size)
    bits = _bits(image)
    with decoding():
        image.load()
    return Loaded(image, size, _orientation(image), reduction, bits, _is_lossy(image, data))


def _bits(image: Image.Image) -> int:
    """Bits per sample in the file, from the raw mode of Pillow's decoder, such as `L;4` or `RGB;16B`."""
    tiles = getattr(image, "tile", [])  # of a file that is not loaded yet
    found = re.search(r";(\d+)", str(tiles[0].args)) if tiles else None
    return int(found[1]) if found else 1 if image.mode == "1" else 8


def _reduction(size: tuple[int, int], needed: int | None) -> int:
    """The whole number by which the sides of a large image may be divided."""
    if needed is None or size[0] * size[1] <= LARGE:
        return 1
    return max(1, min(size) // (_GAP * needed))


def _bytes_of(image: Image.Image) -> int:
    """Per pixel of a decoded image."""
    return _BYTES.get(image.mode, 4)


def _open(data: bytes, largest_pixels: int) -> Image.Image:
    """Reads the header only. Warnings are left alone: their filters are the whole process's."""
    if not data:
        raise Reject("empty", "the file has no bytes")
    try:
        return Image.open(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError:
        if _BEGINNING.match(data):
            raise Reject("damaged", "it begins as an image does, but its header cannot be read") from None
        kind = next((kind for start, kind in _OTHERS.items() if data.startswith(start)), "something else")
        raise Reject("not_an_image", f"not a PNG, JPEG or WebP file, but {kind}") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        found = re.search(r"\d+", str(error))  # Pillow states the product only, and no attribute holds it
        pixels = f"{int(found[0]):,}" if found else "far too many"
        detail = f"the header promises {pixels} pixels; at most {largest_pixels:,} are decoded"
        raise Reject("too_many_pixels", detail) from None
    except MemoryError:
        raise
    except Exception as error:  # Pillow's header parsers raise many kinds on damaged files.
        _check_text(error)
        raise Reject("damaged", f"the image header cannot be read: {_cause(error)}") from None


def _coefficients(data: bytes) -> float:
    """Checks the number of scans of a JPEG's first image; bytes per pixel that libjpeg keeps between scans.

    What lies in other segments, such as a thumbnail, does not count. With more than one scan libjpeg keeps all
    coefficients, 2 bytes each.
    """
    place = scans = 0
    coefficients = 0.0
    while (found := _MARKER.search(data, place)) and found[1] != b"\xd9":
        if found[1] in _FRAMES:
            sampling = [(byte >> 4) * (byte & 15) for byte in data[found.end() + 9 : _end(data, found) : 3]]
            coefficients = 2 * sum(sampling) / max(1, *sampling, 1)
        scans += found[1] == b"\xda"
        if scans > MOST_SCANS:
            detail = f"the JPEG has more than {MOST_SCANS} scans; decoding would take for ever"
            raise Reject("too_many_scans", detail)
        place = _end(data, found)
    return coefficients if scans > 1 else 0.0


def _end(data: bytes, marker: re.Match[bytes]) -> int:
    """Where the segment of a JPEG's marker ends."""
    return marker.end() + max(2, int.from_bytes(data[marker.end() : marker.end() + 2], "big"))


def _is_lossy(image: Image.Image, data: bytes) -> bool:
    if image.format != "WEBP":
        return image.format in JPEG
    return data[12:16] == b"VP8 " or (data[12:16] == b"VP8X" and b"VP8L" not in data)


def _orientation(image: Image.Image) -> int | None:
    """The EXIF orientation, 1 to 8; None without one, or where damaged EXIF accompanies a sound image."""
    try:
        orientation = image.getexif().get(_ORIENTATION)
    except MemoryError:
        raise
    except Exception as error:
        _check_text(error)
        return None
    return orientation if isinstance(orientation, int) and 1 <= orientation <= 8 else None


def _check_text(error: Exception) -> None:
    """Pillow raises a plain ValueError that names its limit: MAX_TEXT_CHUNK or MAX_TEXT_MEMORY."""
    if isinstance(error, ValueError) and "MAX_TEXT" in str(error):
        raise _TooMuchTextError(_cause(error)) from error


def _without_text(data: bytes) -> bytes:
    """A PNG without its text and colour profile, neither of which is used; what may hold an orientation stays."""
    whole, at = memoryview(data), 8
    kept = [whole[:at]]
    while at + 8 <= len(data):
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")
        if data[at + 4 : at + 8] not in _TEXT or data[at + 8 : at + 40].startswith(_MAY_TURN):
            kept.append(whole[at:end])
        at = end
    return b"".join(kept)


def _cause(error: Exception) -> str:
    """An error of Pillow's, short, and without bytes of the file, of which it quotes some."""
    words = re.sub(r"b(['\"]).*?\1", "...", str(error), flags=re.DOTALL)
    return words[:_LONGEST_CAUSE] or type(error).__name__
