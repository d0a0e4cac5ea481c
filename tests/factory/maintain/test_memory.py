"""Small files that decode to gigabytes: every command that reads an output refuses them in little memory."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
import tarfile
import zlib
from pathlib import Path

import pytest

from factory.store.storage import Storage
from tests.factory.maintain.forger import change_index, change_tar
from tests.factory.maintain.outputs import by_hand, sample

REPOSITORY = Path(__file__).parents[3]
SIDE = 8000
SHARDS = 8
MOST_MIB = 256
"""What the work may take beyond what is loaded. One image of 64 megapixels takes 256 MiB in RGB."""

PROGRAM = """
import json, sys
from pathlib import Path
import flawforge.cli, eval.gallery
import factory.maintain.inspect, factory.maintain.replay, factory.maintain.merge, factory.maintain.verify
from PIL import Image
from actors.errors import FlawforgeError
from factory.maintain.replay import compare_files
from factory.store.storage import Storage
from tests.peak_memory import peak_mib

Image.init()
url, other, place = sys.argv[1:]
before = peak_mib()
storage = Storage(url)


def reported(work):
    try:
        return str(work())
    except FlawforgeError as error:
        return f"refused: {error}"


bomb = Path(place, "bomb.png").read_bytes()
found = {
    "verify": "\\n".join(map(str, factory.maintain.verify.verify(storage).problems)),
    "inspect": reported(lambda: factory.maintain.inspect.inspect(storage, "item-0").problems),
    "gallery": reported(lambda: eval.gallery.write_gallery(storage, "bombs")),
    "replay": str(list(compare_files({"mask.png": bomb + b" "}, {"mask.png": bomb}))),
    "merge": reported(lambda: factory.maintain.merge.merge(f"{place}/merged", [url, other]).copied),
}
found["peak_mib"] = peak_mib() - before
print(json.dumps(found))
"""


def bomb(side: int = SIDE, colour: int = 2) -> bytes:
    """A PNG of black pixels, 8 bits of RGB (colour type 2) or of grey (0), of some hundred KB."""
    packer = zlib.compressobj(1)
    row = bytes(1 + side * (3 if colour == 2 else 1))
    body = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()
    header = struct.pack(">IIBBBBB", side, side, 8, colour, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", body), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks
    )


def run(storage: Storage, other: Storage, place: Path) -> dict[str, str | float]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, storage.url, other.url, str(place)],
        cwd=REPOSITORY,
        env={**os.environ, "MALLOC_ARENA_MAX": "2"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, str | float] = json.loads(done.stdout)
    return found


@pytest.fixture
def outputs(tmp_path: Path) -> tuple[Storage, Storage]:
    shards = [[sample(f"item-{n}", f"memory://{n}.png")] for n in range(SHARDS)]
    other = by_hand(tmp_path / "other", [[sample("other-1", "memory://o.png")]], name="other")
    return by_hand(tmp_path / "out", shards), other


@pytest.mark.parametrize("member", ["mask.png", "image.png", "original.png"])
def test_eight_images_of_64_megapixels(outputs: tuple[Storage, Storage], tmp_path: Path, member: str):
    storage, other = outputs
    data = bomb()
    (tmp_path / "bomb.png").write_bytes(data)
    for number in range(SHARDS):
        name = f"item-{number}.{member}"
        change_tar(storage, lambda files, name=name: files.update({name: data}), index=True, shard=number)  # type: ignore[misc]
    found = run(storage, other, tmp_path)
    assert float(found["peak_mib"]) < MOST_MIB
    size = f"{SIDE} x {SIDE} pixels; at most 4096 x 4096 are decoded"
    for number in range(SHARDS):
        assert f"item-{number}: {member} cannot be decoded: {size}" in str(found["verify"])
    assert f"{member} cannot be decoded: {size}" in str(found["inspect"])
    assert str(found["gallery"]).startswith("refused: ") and size in str(found["gallery"])
    assert "cannot be decoded" in str(found["replay"])
    assert found["merge"] == str(SHARDS + 1)  # bytes are copied, and nothing is decoded


def test_previews_of_rejects_are_looked_at_before_they_are_decoded(tmp_path: Path):
    rejected = [sample(f"item-{n}", f"memory://{n}.png", rejected="unchanged") for n in range(4)]
    storage = by_hand(tmp_path / "out", [[sample("item-9", "memory://9.png")], *([one] for one in rejected)])
    other = by_hand(tmp_path / "other", [[sample("other-1", "memory://o.png")]], name="other")
    data = bomb()
    (tmp_path / "bomb.png").write_bytes(data)
    for number in range(1, 5):
        change_index(storage, lambda rows: rows[0].update(preview_mask=data), shard=number)
    found = run(storage, other, tmp_path)
    assert float(found["peak_mib"]) < MOST_MIB
    assert "preview_mask" in str(found["verify"])
    assert str(found["gallery"]).startswith("refused: ") and f"{SIDE} x {SIDE} pixels" in str(
        found["gallery"]
    )


def test_a_member_that_is_larger_than_any_that_is_written(tmp_path: Path):
    storage = by_hand(tmp_path / "out", [[sample("item-0", "memory://0.png")]])
    other = by_hand(tmp_path / "other", [[sample("other-1", "memory://o.png")]], name="other")
    (tmp_path / "bomb.png").write_bytes(bomb(16))
    header = tarfile.TarInfo("item-0.image.png")
    header.size = 5 << 30
    path = tmp_path / "out" / "shards" / "000000.tar"
    path.write_bytes(header.tobuf(tarfile.USTAR_FORMAT))
    os.truncate(path, 1 << 20)  # readers give up at the header, before they see that the rest is missing
    found = run(storage, other, tmp_path)
    assert float(found["peak_mib"]) < MOST_MIB
    assert "item-0.image.png: 5,368,709,120 bytes; at most 67,108,864 are written" in str(found["verify"])
    assert str(found["gallery"]).startswith("refused: ")
