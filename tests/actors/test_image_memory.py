"""The memory that decoding takes: measured in a process of its own, and what bounding it does to the pixels."""

from __future__ import annotations

import io
import json
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from actors import image_file, images
from actors.errors import Reject
from actors.images import decode, fit
from tests.actors.test_images import TURNED, blocks, chunk, saved

MOST = 400 << 20
SIDE = 8000

MEASURE = """
import json, sys
from pathlib import Path
from actors.batch import Sample
from actors.image_selector import ImageSelector
from actors.selection_config import SelectionConfig
from tests.peak_memory import peak_mib
image, mask = (Path(name).read_bytes() if name else None for name in sys.argv[1:])
select = ImageSelector(SelectionConfig(smallest_side=1), size=64)
before = peak_mib()
sample = select(Sample("a", "a"), image, mask)
after = peak_mib()
print(json.dumps({"reason": sample.reason, "more": (after - before) * (1 << 20)}))
"""


def flat_png(bits: int, colour: int, *extra: bytes) -> bytes:
    """64 megapixels of zeros, by the specification."""
    channels = {0: 1, 2: 3, 4: 2, 6: 4}[colour]
    packer, row = zlib.compressobj(1), bytes(1 + SIDE * channels * bits // 8)
    body = b"".join(packer.compress(row) for _ in range(SIDE)) + packer.flush()
    header = struct.pack(">IIBBBBB", SIDE, SIDE, bits, colour, 0, 0, 0)
    parts = (chunk(b"IHDR", header), *extra, chunk(b"IDAT", body), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def measure(folder: Path, image: bytes, mask: bytes | None = None) -> dict[str, object]:
    names = []
    for name, data in (("image", image), ("mask", mask)):
        names.append(str(folder / name) if data is not None else "")
        if data is not None:
            (folder / name).write_bytes(data)
    command = [sys.executable, "-c", MEASURE, *names]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


TURNED_PNG = chunk(b"eXIf", b"MM\0*\0\0\0\x08" + struct.pack(">HHHIHHI", 1, 0x0112, 3, 1, 6, 0, 0))


@pytest.mark.parametrize(
    ("bits", "colour", "extra"), [(8, 6, b""), (16, 6, TURNED_PNG)], ids=["8_bit", "16_bit"]
)
def test_64_megapixels_with_transparency(tmp_path: Path, bits: int, colour: int, extra: bytes):
    data = flat_png(bits, colour, *([extra] if extra else []))
    assert len(data) < 3_000_000
    found = measure(tmp_path, data)
    assert found["reason"] == "" and found["more"] < MOST, found  # type: ignore[operator]


def test_a_large_mask_beside_a_large_image(tmp_path: Path):
    data = flat_png(8, 2)
    found = measure(tmp_path, data, data)
    assert found["reason"] == "" and found["more"] < MOST, found  # type: ignore[operator]


def test_a_progressive_jpeg_whose_coefficients_are_all_kept(tmp_path: Path):
    """libjpeg holds 6 bytes per pixel until the last scan, beside the image."""
    data = saved(Image.new("RGB", (SIDE, SIDE), "red"), "JPEG", progressive=True, subsampling=0)
    found = measure(tmp_path, data)
    assert found["reason"] == "" and found["more"] < MOST, found  # type: ignore[operator]


def huge_webp(width: int, height: int) -> bytes:
    """A small lossless WebP whose header states another size."""
    data = bytearray(saved(Image.new("RGB", (16, 16), "red"), "WEBP", lossless=True))
    at = data.index(b"VP8L") + 9
    rest = int.from_bytes(data[at : at + 4], "little") >> 28 << 28
    data[at : at + 4] = (rest | (height - 1) << 14 | (width - 1)).to_bytes(4, "little")
    return bytes(data)


CMYK_SCANS = 8
"""Bytes of coefficients per pixel of a progressive CMYK JPEG; 4 more hold the image."""


def test_what_takes_more_is_rejected_with_the_figures():
    """Before it is decoded: the bodies are those of small images, and would be damaged."""
    with pytest.raises(Reject) as caught:
        decode(huge_webp(6000, 5000), needed=64)
    assert caught.value.reason == "too_many_pixels"
    assert "6000 x 5000 pixels of mode RGB take 480 MB to decode; at most 400 MB" in caught.value.detail
    ink = bytearray(saved(Image.new("CMYK", (16, 16)), "JPEG", progressive=True))
    at = ink.index(b"\xff\xc2")
    ink[at + 5 : at + 9] = struct.pack(">HH", 7000, 9000)
    with pytest.raises(Reject) as caught:
        decode(bytes(ink), needed=4000)
    megabytes = 9000 * 7000 * (CMYK_SCANS + 4) / 1e6
    assert f"9000 x 7000 pixels of mode CMYK take {megabytes:.0f} MB" in caught.value.detail


def test_an_image_that_cannot_be_reduced_is_rejected_before_its_copy(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(image_file, "MOST_MEMORY", 48 * 32 * 8 - 1)
    data = saved(Image.fromarray(blocks()).convert("RGBA"), "PNG")
    with pytest.raises(Reject, match="mode RGBA"):
        decode(data)
    exif = Image.Exif()
    exif[0x0112] = 3
    with pytest.raises(Reject, match="mode RGB"):
        decode(saved(Image.fromarray(blocks()), "PNG", exif=exif))
    assert decode(saved(Image.fromarray(blocks()), "PNG")).size == (48, 32)


def scene(width: int, height: int) -> Image.Image:
    """Smooth colours with an edge, nothing symmetric."""
    rows, columns = np.mgrid[:height, :width]
    red, green = 200 * columns / width + 20, 180 * rows / height + 30
    blue = np.where((columns > width * 0.3) & (rows < height * 0.6), 220, 40)
    return Image.fromarray(np.dstack([red, green, blue]).astype(np.uint8))


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "RGBA", "P", "L", "I;16"])
def test_a_reduced_image_looks_as_the_whole_one(monkeypatch: pytest.MonkeyPatch, kind: str, orientation: int):
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = scene(701, 560)
    if kind == "RGBA":
        image.putalpha(Image.linear_gradient("L").resize(image.size))
    elif kind == "I;16":
        image = Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
    elif kind not in ("PNG", "JPEG"):
        image = image.convert(kind)
    data = saved(image, "JPEG" if kind == "JPEG" else "PNG", exif=exif)
    whole = decode(data)
    for module in (image_file, images):
        monkeypatch.setattr(module, "LARGE", 100_000)
    reduced = decode(data, needed=32)
    assert reduced.size == whole.size == whole.image.size
    assert reduced.image.width < 200
    difference = np.asarray(fit(reduced.image, 32)).astype(int) - np.asarray(fit(whole.image, 32))
    assert np.abs(difference).mean() < 2 and np.abs(difference).max() < 48
    assert decode(data, needed=281).image.size == whole.size, "it stays twice as large as needed"


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "L", "P", "1", "I;16", "CMYK"])
def test_strips_give_what_the_whole_gives(monkeypatch: pytest.MonkeyPatch, mode: str):
    image = scene(61, 47)
    if mode in ("RGBA", "LA"):
        image = image.convert(mode)
        image.putalpha(Image.linear_gradient("L").resize(image.size))
    elif mode == "I;16":
        image = Image.fromarray(np.arange(61 * 47, dtype=np.uint16).reshape(47, 61) * 22)
    else:
        image = image.convert(mode)
    data = saved(image, "JPEG" if mode == "CMYK" else "PNG")
    whole = np.asarray(decode(data).image)
    monkeypatch.setattr(images, "STRIP", 61 * 5)
    assert (np.asarray(decode(data).image) == whole).all()
    if mode == "RGB":
        assert (whole == np.asarray(image)).all()


@pytest.mark.parametrize("orientation", TURNED)
def test_the_stated_size_is_upright(orientation: int):
    exif = Image.Exif()
    exif[0x0112] = orientation
    found = decode(saved(Image.fromarray(blocks()), "JPEG", exif=exif))
    assert found.size == found.image.size == TURNED[orientation](blocks()).shape[1::-1]
    assert found.orientation == orientation


def test_pages_of_a_tiff_and_frames_are_refused():
    page = Image.new("L", (64, 64))
    for kind, reason in (("TIFF", "not_an_image"), ("WEBP", "animated"), ("GIF", "not_an_image")):
        buffer = io.BytesIO()
        page.save(buffer, kind, save_all=True, append_images=[Image.new("L", (64, 64), 9)] * 500)
        with pytest.raises(Reject) as caught:
            decode(buffer.getvalue())
        assert caught.value.reason == reason
