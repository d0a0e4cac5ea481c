"""The gallery of an output with large images, and of outputs that do not hold what they should."""

from __future__ import annotations

import base64
import io
import re
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from actors.errors import OutputError
from actors.images import encode_mask
from eval.gallery import LARGEST_SIDE, write_gallery
from factory.store.storage import Storage
from tests.factory.maintain.forger import change_index, put_tar, sound_output
from tests.factory.maintain.outputs import by_hand, sample


@pytest.fixture
def output(tmp_path: Path) -> Storage:
    return by_hand(tmp_path / "out", [[sample(key, "memory://x") for key in "abc"]])


def test_rejects_with_large_images_are_shown(tmp_path: Path):
    """The index keeps their images as JPEG."""
    items = [
        sample(f"item-{n}", f"memory://{n}.png", side=400, rejected="unchanged" if n else "")
        for n in range(2)
    ]
    storage = by_hand(tmp_path / "out", [items])
    assert write_gallery(storage, "large") == 2
    shown = re.findall(
        r"data:image/(png|jpeg);base64,([A-Za-z0-9+/=]+)", storage.read("gallery.html").decode()
    )
    assert {kind for kind, _ in shown} == {"png", "jpeg"}
    for kind, data in shown:
        image = Image.open(io.BytesIO(base64.b64decode(data)))
        assert image.format == kind.upper() and max(image.size) <= LARGEST_SIDE


@pytest.mark.parametrize("data", [b"no picture", b"\xff\xd8\xff no picture", b"\x89PNG\r\n\x1a\n", b"GIF89a"])
def test_bytes_of_a_reject_that_are_not_an_image_are_refused_by_name(tmp_path: Path, data: bytes):
    storage = sound_output(tmp_path / "out")
    change_index(storage, lambda rows: rows[2].update(preview_mask=data))
    with pytest.raises(OutputError, match=r"index/000000\.parquet item-2: mask.*; run flawforge verify"):
        write_gallery(storage, "forged")


def test_a_shard_that_is_not_a_tar_is_refused_by_name(tmp_path: Path):
    storage = sound_output(tmp_path / "out")
    put_tar(storage, b"no tar" * 1000)
    with pytest.raises(OutputError, match=r"shards/000000\.tar is not a tar as it is written: at byte 0"):
        write_gallery(storage, "forged")


def test_an_image_with_a_damaged_body_is_refused_by_name(tmp_path: Path):
    storage = sound_output(tmp_path / "out")
    damaged = encode_mask(np.random.default_rng(0).random((64, 64)) < 0.5)[:300]
    change_index(storage, lambda rows: rows[2].update(preview_mask=damaged))
    with pytest.raises(OutputError, match=r"item-2.*mask.*; run flawforge verify"):
        write_gallery(storage, "forged")


def test_a_tar_that_was_cut_is_named(output: Storage):
    path = Path(output.url) / "shards/000000.tar"
    path.write_bytes(path.read_bytes()[:700])
    with pytest.raises(OutputError, match=r"shards/000000\.tar is not a tar as it is written"):
        write_gallery(output, "cut")


def test_a_sample_that_is_not_in_one_piece_is_named(output: Storage):
    path = Path(output.url) / "shards/000000.tar"
    with tarfile.open(path) as tar:
        files = [(member, tar.extractfile(member)) for member in tar]
        packed = [(member, stream.read()) for member, stream in files if stream is not None]
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for member, data in [*packed[1:], packed[0]]:
            tar.addfile(member, io.BytesIO(data))
    with pytest.raises(OutputError, match="sample 'a': its files do not lie side by side"):
        write_gallery(output, "scattered")
