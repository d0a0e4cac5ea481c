"""A folder as people have them: the good images end in shards, the rest in the rejects with a reason."""

from __future__ import annotations

import json
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from factory.maintain.verify import read_index, verify
from factory.output.manifest import done_shards
from factory.recipe.recipe import parse_recipe
from tests.factory.maintain.outputs import by_the_stages
from tests.upernet import save_upernet
from tinytown.render import render
from tinytown.scene import sample_scene

RECIPE = """
name: messy
source: {{kind: images, urls: ["{folder}"], size: 64}}
selection: {{smallest_side: 48}}
regions: {{kind: segmenter, checkpoint: "{net}", largest_area: 1.0}}
corruption: {{inversion_steps: 3, batch_size: 4}}
verify: {{least_inside: 0.0}}
output: {{samples_per_shard: 4}}
execution: {{select: {{cpus: 0.25}}, corrupt: {{cpus: 0.5}}}}
"""


def huge_png(side: int) -> bytes:
    """A well-formed PNG of side x side black pixels, in few bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    row = b"\0" * (1 + (side + 7) // 8)
    packer = zlib.compressobj(9)
    body = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("images")
    image = Image.fromarray(render(sample_scene(2)).image).resize((96, 72))
    image.save(root / "plain.png")
    image.convert("CMYK").save(root / "print.jpg")
    image.convert("L").save(root / "grey.jpeg")
    turned = Image.Exif()
    turned[0x0112] = 6
    image.save(root / "turned.JPG", exif=turned)
    (root / "deep" / "er").mkdir(parents=True)
    image.save(root / "deep" / "er" / "web.webp", lossless=True)
    whole = (root / "plain.png").read_bytes()
    (root / "cut.png").write_bytes(whole[: len(whole) * 2 // 3])
    (root / "notes.png").write_text("these are not the pixels you are looking for")
    Image.new("RGB", (1, 1)).save(root / "dot.png")
    (root / "vast.png").write_bytes(huge_png(30_000))
    (root / "nothing.png").write_bytes(b"")
    (root / "readme.md").write_text("not an image, and not named like one")
    return root


def test_good_pictures_in_shards_and_the_rest_with_reasons(folder: Path, tmp_path: Path):
    net = save_upernet(tmp_path / "net", bias=4.0)
    recipe = parse_recipe(RECIPE.format(folder=folder, net=net), "messy.yaml")
    storage = by_the_stages(tmp_path / "out", recipe)
    rows = [row for number in sorted(done_shards(storage)) for row in read_index(storage, number)]
    by_name = {str(row["source"]).rsplit("/", 1)[-1]: row for row in rows}
    accepted = {name for name, row in by_name.items() if row["status"] == "accepted"}
    assert accepted == {"plain.png", "print.jpg", "grey.jpeg", "turned.JPG", "web.webp"}
    reasons = {name: (row["stage"], row["reason"]) for name, row in by_name.items() if name not in accepted}
    assert reasons == {
        "cut.png": ("select_image", "damaged"),
        "notes.png": ("select_image", "not_an_image"),
        "dot.png": ("select_image", "too_small"),
        "vast.png": ("select_image", "too_many_pixels"),
        "nothing.png": ("select_image", "empty"),
    }
    assert by_name["dot.png"]["detail"] == "1 x 1 pixels; the smaller side must be at least 48"
    assert (
        by_name["vast.png"]["detail"]
        == "the header promises 900,000,000 pixels; at most 64,000,000 are decoded"
    )
    verdict = verify(storage)
    assert verdict.problems == () and verdict.sound
    assert (verdict.accepted, verdict.rejected, verdict.planned) == (5, 5, 10)
    skipped = json.loads(storage.read("manifest.json"))["skipped_while_listing"]
    assert sum(skipped.values()) == 1, skipped


def test_a_turned_picture_is_upright(folder: Path, tmp_path: Path):
    from actors.images import decode_image

    upright = np.asarray(decode_image((folder / "turned.JPG").read_bytes())).astype(int)
    plain = np.asarray(decode_image((folder / "plain.png").read_bytes())).astype(int)
    assert upright.shape == (96, 72, 3)
    assert np.abs(np.rot90(upright) - plain).mean() < 12  # orientation 6: turn clockwise to see it upright
