"""Source images of the cases: image files, tars and a Parquet file, made from seeds alone.

Keys and random draws of an item follow from the absolute path of its file, and its version from the file's size and
time. So every build reads these files from one folder, and they always have the same times.
"""

from __future__ import annotations

import io
import json
import os
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, ImageDraw

IMAGES, WEBDATASET, PARQUET = "images", "webdataset", "parquet"
"""Folders of the inputs."""

_TIME = 1_700_000_000
_ORIENTATION = 0x0112
_ROTATED = 6


class InputsError(Exception):
    """The folder cannot be used."""


def write_inputs(folder: Path) -> None:
    """Write all inputs, or those that are missing or different.

    Raises:
        InputsError: the folder holds other files, which the sources would list, too.
    """
    wanted = {**_images(), **_webdataset(), **_parquet()}
    present = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    if others := sorted(present - wanted.keys()):
        raise InputsError(
            f"{folder} holds other files: {', '.join(others[:5])}; choose a new or empty folder"
        )
    for name, data in wanted.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_bytes() != data:
            path.write_bytes(data)
        os.utime(path, (_TIME, _TIME))


def _images() -> dict[str, bytes]:
    """Images with captions and masks beside them; some can only be rejected."""
    files: dict[str, bytes] = {}
    sizes = {"a": (64, 64), "b": (96, 80), "c": (80, 96), "d": (64, 100), "e": (128, 128), "f": (64, 64)}
    sizes |= {"small": (40, 40), "wide": (256, 64)}
    for seed, (name, size) in enumerate(sizes.items()):
        files[f"{name}.png"] = _png(_image(seed, size))
        files[f"{name}.mask.png"] = _png(_mask(seed, size))
        files[f"{name}.txt"] = f"a red car and a tree, number {seed}".encode()
    files["rotated.jpg"] = _jpeg(_image(20, (96, 64)), orientation=_ROTATED)
    files["rotated.mask.png"] = _png(_mask(20, (64, 96)))
    files["rotated.txt"] = b"a green house"
    whole = _png(_image(21, (64, 64)))
    files["broken.png"] = whole[: len(whole) // 2]
    files["broken.mask.png"] = _png(_mask(21, (64, 64)))
    files["broken.txt"] = b"a broken file"
    files["black.png"] = _png(_image(22, (64, 64)))
    files["black.mask.png"] = _png(Image.new("1", (64, 64)))
    files["black.txt"] = b"a mask without a region"
    files["bare.png"] = _png(_image(23, (64, 64)))
    return {f"{IMAGES}/{name}": data for name, data in files.items()}


def _webdataset() -> dict[str, bytes]:
    """Two tars; one item is broken, and one has a score below that of the recipe's filter."""
    tars = {}
    for number, seeds in enumerate(((30, 31, 32, 33), (34, 35, 36))):
        members: dict[str, bytes] = {}
        for seed in seeds:
            image = _png(_image(seed, (72, 64)))
            members[f"s{seed}.png"] = image[:200] if seed == 32 else image
            members[f"s{seed}.mask.png"] = _png(_mask(seed, (72, 64)))
            about = {"prompt": f"a face and a clock, number {seed}", "score": 0.1 if seed == 34 else 0.5}
            members[f"s{seed}.json"] = json.dumps(about).encode()
        tars[f"{WEBDATASET}/{number:03d}.tar"] = _tar(members)
    return tars


def _parquet() -> dict[str, bytes]:
    """Rows with images in cells, with the name of a file beside the table, and with one outside, which is refused."""
    rows = []
    for seed in range(40, 47):
        cell: dict[str, bytes | str | None] = {"bytes": _png(_image(seed, (64, 72))), "path": f"{seed}.png"}
        if seed == 42:
            cell = {"bytes": None, "path": "beside/42.png"}
        if seed == 43:
            cell = {"bytes": None, "path": "../images/a.png"}
        mask = {"bytes": _png(_mask(seed, (64, 72))), "path": None}
        score = 0.1 if seed == 44 else 0.5
        rows.append({"image": cell, "mask": mask, "text": f"a sign, number {seed}", "score": score})
    file = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    schema = pa.schema([("image", file), ("mask", file), ("text", pa.string()), ("score", pa.float64())])
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), buffer, row_group_size=4)
    beside = _png(_image(42, (64, 72)))
    return {f"{PARQUET}/rows.parquet": buffer.getvalue(), f"{PARQUET}/beside/42.png": beside}


def _image(seed: int, size: tuple[int, int]) -> Image.Image:
    """A gradient with a few coloured shapes; `size` is (width, height)."""
    random = np.random.default_rng(seed)
    width, height = size
    corners = random.integers(60, 200, (2, 2, 3)).astype(np.uint8)
    image = Image.fromarray(corners).resize(size, Image.Resampling.BILINEAR)
    draw = ImageDraw.Draw(image)
    for number in range(4):
        x, y = int(random.integers(0, width - 20)), int(random.integers(0, height - 20))
        colour = tuple(int(level) for level in random.integers(0, 256, 3))
        shape = draw.ellipse if number % 2 else draw.rectangle
        shape((x, y, x + int(random.integers(14, 32)), y + int(random.integers(14, 32))), fill=colour)
    return image


def _mask(seed: int, size: tuple[int, int]) -> Image.Image:
    """An ellipse over about a quarter of the image; `size` is (width, height)."""
    random = np.random.default_rng(1000 + seed)
    width, height = size
    x, y = int(random.integers(4, width // 3)), int(random.integers(4, height // 3))
    mask = Image.new("1", size)
    ImageDraw.Draw(mask).ellipse((x, y, x + width // 2, y + height // 2), fill=1)
    return mask


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def _jpeg(image: Image.Image, *, orientation: int) -> bytes:
    exif = Image.Exif()
    exif[_ORIENTATION] = orientation
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=90, exif=exif)
    return buffer.getvalue()


def _tar(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in members.items():
            header = tarfile.TarInfo(name)
            header.size = len(data)
            tar.addfile(header, io.BytesIO(data))
    return buffer.getvalue()
