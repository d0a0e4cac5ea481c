"""The gallery of an output whose tars are not as they were written."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from actors.errors import OutputError
from eval.gallery import write_gallery
from factory.storage import Storage
from tests.factory.care.outputs import by_hand, sample


@pytest.fixture
def output(tmp_path: Path) -> Storage:
    return by_hand(tmp_path / "out", [[sample(key, "memory://x") for key in "abc"]])


def test_a_tar_that_was_cut_is_named(output: Storage):
    path = Path(output.url) / "shards/000000.tar"
    path.write_bytes(path.read_bytes()[:700])
    with pytest.raises(OutputError, match=r"shards/000000\.tar cannot be read as a tar"):
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
