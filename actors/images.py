"""Images to arrays and back, decoded with limits: bytes from outside are never trusted."""

from __future__ import annotations

import io
import re

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from actors.errors import Reject

FORMATS = ("PNG", "JPEG", "WEBP")
LARGEST_PIXELS = 64_000_000
MOST_SCANS = 100
"""Of a JPEG. Progressive ones have about 10, each goes over all pixels, and one of 20 bytes may take a second."""

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
"""What a file is that is no image, by its first bytes. They are not shown: a file may be a private one."""

_MARKER = re.compile(rb"\xff([^\x00\x01\xd0-\xd8\xff])", re.DOTALL)
"""Of a JPEG, followed by a length; not those that stand alone, nor an escaped 255 in the pixels."""

_LONGEST_TOLD = 200
_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What brings a picture upright, by its EXIF orientation (EXIF 2.3, tag 0x0112)."""


def decode_image(data: bytes, *, largest_pixels: int = LARGEST_PIXELS) -> Image.Image:
    """Decodes an image from outside to upright 8-bit RGB, without metadata.

    EXIF rotation is applied, transparency is laid over white, CMYK, grey, palette and 16-bit are converted.
    Colour profiles are not applied.

    Args:
        data: an encoded PNG, JPEG or WebP file.
        largest_pixels: width times height above which the file is not decoded.

    Raises:
        Reject: `empty`, `not_an_image`, `too_many_pixels`, `too_many_scans`, `animated` or `damaged`.
        MemoryError: the machine's fault, not the item's.
    """
    image = _open(data, largest_pixels)
    width, height = image.size
    if width * height > largest_pixels:
        raise Reject(
            "too_many_pixels",
            f"{width} x {height} is {width * height:,} pixels; at most {largest_pixels:,} are decoded",
        )
    frames = getattr(image, "n_frames", 1)
    is_photo = image.format == "MPO"  # a phone's JPEG; its further frames are depth or brightness maps
    if frames > 1 and not is_photo:
        raise Reject("animated", f"the file holds {frames} frames; a single picture is wanted")
    if image.format in ("JPEG", "MPO"):
        _check_scans(data)
    try:
        image.load()
        picture = _to_rgb(_upright(image))
    except MemoryError:
        raise
    except (
        Exception
    ) as error:  # a truncated or damaged body: OSError, SyntaxError, zlib.error, struct.error, ...
        raise Reject("damaged", f"the image cannot be decoded: {_told(error)}") from None
    picture.info = {}
    return picture


def fit(image: Image.Image, size: int, *, smooth: bool = True) -> Image.Image:
    """The largest centred square, resized to `size` x `size`; `smooth=False` takes the nearest, for masks."""
    if image.size == (size, size):
        return image
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    square = image.crop((left, top, left + side, top + side))
    return square.resize((size, size), Image.Resampling.LANCZOS if smooth else Image.Resampling.NEAREST)


def encode_image(image: Image.Image | NDArray[np.uint8]) -> bytes:
    """PNG at compression level 1, without metadata. Arrays are uint8 [H, W, 3], RGB."""
    return _png(image if isinstance(image, Image.Image) else Image.fromarray(image))


def encode_mask(mask: NDArray[np.bool_]) -> bytes:
    """A 1-bit PNG of a bool [H, W] mask."""
    return _png(Image.fromarray(mask.astype(np.uint8) * 255).convert("1", dither=Image.Dither.NONE))


def read_image(data: bytes) -> NDArray[np.uint8]:
    """uint8 [H, W, 3] of an image that this project encoded."""
    with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
        return np.asarray(image.convert("RGB"))


def read_mask(data: bytes) -> NDArray[np.bool_]:
    """bool [H, W] of a mask that this project encoded."""
    with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
        return np.asarray(image.convert("L")) >= 128


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
        found = re.search(r"\d+", str(error))  # Pillow says the product only, and no attribute holds it
        pixels = f"{int(found[0]):,}" if found else "far too many"
        detail = f"the header promises {pixels} pixels; at most {largest_pixels:,} are decoded"
        raise Reject("too_many_pixels", detail) from None
    except MemoryError:
        raise
    except Exception as error:  # Pillow's header parsers raise many kinds on damaged files.
        raise Reject("damaged", f"the image header cannot be read: {_told(error)}") from None


def _check_scans(data: bytes) -> None:
    """Counts the scans of a JPEG's first picture; what lies in other segments, such as a thumbnail, is left out."""
    place = scans = 0
    while (found := _MARKER.search(data, place)) and found[1] != b"\xd9":
        scans += found[1] == b"\xda"
        if scans > MOST_SCANS:
            detail = f"the JPEG has more than {MOST_SCANS} scans; decoding would take for ever"
            raise Reject("too_many_scans", detail)
        place = found.start() + 2 + max(2, int.from_bytes(data[found.end() : found.end() + 2], "big"))


def _upright(image: Image.Image) -> Image.Image:
    """Turned as its EXIF says. EXIF is often damaged where the picture is sound, and then says nothing."""
    try:
        orientation = image.getexif().get(_ORIENTATION, 1)
    except MemoryError:
        raise
    except Exception:
        orientation = 1
    turn = _TURNS.get(orientation) if isinstance(orientation, int) else None
    return image if turn is None else image.transpose(turn)


def _to_rgb(image: Image.Image) -> Image.Image:
    transparent = image.info.get("transparency")
    if image.mode.startswith("I"):
        levels = np.asarray(image).astype(np.uint32)
        grey = ((levels * 255 + 32767) // 65535).astype(np.uint8)
        if isinstance(transparent, int):
            grey[levels == transparent] = 255
        return Image.fromarray(grey).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA") or transparent is not None:
        over = image.convert("RGBA")
        white = Image.new("RGBA", over.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, over).convert("RGB")
    return image.convert("RGB")


def _png(image: Image.Image) -> bytes:
    buffer, bare = io.BytesIO(), image.copy()
    bare.info = {}  # or Pillow writes it again: the colour profile of a CMYK photo into an RGB file
    bare.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def _told(error: Exception) -> str:
    """An error of Pillow's, short, and without bytes of the file, of which it quotes some."""
    words = re.sub(r"b(['\"]).*?\1", "...", str(error), flags=re.DOTALL)
    return words[:_LONGEST_TOLD] or type(error).__name__
