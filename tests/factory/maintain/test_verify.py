"""`verify` side by side: the same verdict and the same order, whatever is checked first, and from any store."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path

import fsspec
import pytest

from factory.maintain import verify as module
from factory.maintain.verify import verify
from factory.output.shards.tar import Hashing, samples
from factory.store.storage import Storage
from tests.factory.maintain.outputs import by_hand, sample


@pytest.fixture
def output(tmp_path: Path) -> Storage:
    """30 shards of 2."""
    return by_hand(
        tmp_path / "out",
        [
            [sample(f"item-{n}", f"memory://{n}.png") for n in (2 * shard, 2 * shard + 1)]
            for shard in range(30)
        ],
    )


def damage(storage: Storage) -> list[str]:
    """Damages some shards, and says what a check must tell, in order."""
    root = Path(storage.url)
    (root / "shards/000003.tar").unlink()
    (root / "stats/000009.json").unlink()
    (root / "index/000010.parquet").write_bytes(b"")
    with (root / "shards/000021.tar").open("ab") as stream:
        stream.write(b"\0" * 512)
    (root / "stats/000028.json").write_text("{")
    size = (root / "shards/000022.tar").stat().st_size
    return [
        "shards/000009.tar: stands without its sidecar",
        "index/000009.parquet: stands without its sidecar",
        "shards/000003.tar: missing",
        "000009: not made yet",
        "000010: ",
        f"shards/000021.tar: {size + 512} bytes, the sidecar says {size}",
        "shards/000021.tar: its sha256 is not that of the sidecar",
        "shards/000021.tar: not a tar as it is written: its end is",
        "000028: ",
    ]


@pytest.mark.parametrize("threads", [1, 2, 8])
def test_problems_come_in_the_order_of_the_shards(
    output: Storage, threads: int, monkeypatch: pytest.MonkeyPatch
):
    expected = damage(output)
    monkeypatch.setattr(module, "THREADS", threads)
    verdict = verify(output)
    reported = [str(problem) for problem in verdict.problems]
    assert len(reported) == len(expected)
    for problem, beginning in zip(reported, expected, strict=True):
        assert problem.startswith(beginning)
    assert (verdict.planned, verdict.accepted, verdict.done) == (60, 60 - 6, 29)


def test_from_another_store(output: Storage):
    files = fsspec.filesystem("memory")
    files.put(output.url, "/check/out", recursive=True)
    there = Storage("memory://check/out")
    assert verify(there) == verify(output) and verify(there).sound
    files.rm("/check", recursive=True)


def members(*names: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name in names:
            header = tarfile.TarInfo(name)
            header.size = len(name)
            tar.addfile(header, io.BytesIO(name.encode()))
    return buffer.getvalue()


def test_a_tar_is_read_once_and_hashed_whole():
    data = members("a.x", "a.y.z", "b.x")
    source = Hashing(io.BytesIO(data))
    assert list(samples(source)) == [
        ("a", {"x": b"a.x", "y.z": b"a.y.z"}),
        ("b", {"x": b"b.x"}),
    ]
    source.drain()
    assert (source.bytes, source.sha256) == (len(data), hashlib.sha256(data).hexdigest())


@pytest.mark.parametrize(
    ("names", "what"),
    [
        (["a.x", "b.x", "a.y"], "'a': its files do not lie side by side"),
        (["a.x", "b.x", "a.x"], "'a': its files do not lie side by side"),
        (["a.x", "b.x", "c.x", "b.y", "b.z"], "'b': its files do not lie side by side"),
        (["a.x", "a.y", "a.x"], "'a': it has two files x"),
    ],
)
def test_a_sample_that_is_not_in_one_piece(names: list[str], what: str):
    with pytest.raises(tarfile.TarError, match=what):
        list(samples(io.BytesIO(members(*names))))


def test_a_tar_that_ends_in_the_middle():
    data = members("a.x", "b.x")
    with pytest.raises(tarfile.TarError):
        list(samples(io.BytesIO(data[: 3 * 512 + 1])))


def test_a_sample_in_two_places_is_reported(output: Storage):
    """Readers would take it for two samples."""
    path = Path(output.url) / "shards/000005.tar"
    with tarfile.open(path) as tar:
        files = [(member, tar.extractfile(member).read()) for member in tar]
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for member, data in [*files[1:], files[0]]:
            tar.addfile(member, io.BytesIO(data))
    reported = "\n".join(map(str, verify(output).problems))
    assert "item-10: its files do not lie side by side" in reported


def test_a_sample_of_another_recipe_is_reported(output: Storage, tmp_path: Path):
    path = Path(output.url) / "shards/000005.tar"
    data = path.read_bytes()
    digest = json.loads(output.read("stats/000005.json"))["digest"]
    path.write_bytes(data.replace(digest.encode(), b"0" * 64))
    reported = [str(problem) for problem in verify(output).problems]
    assert reported == [
        "shards/000005.tar: its sha256 is not that of the sidecar: bytes were changed",
        "shards/000005.tar item-10: json is not that of the index (sha256 differs)",
        "shards/000005.tar item-10: json says that another recipe made it (recipe_digest differs)",
        "shards/000005.tar item-11: json is not that of the index (sha256 differs)",
        "shards/000005.tar item-11: json says that another recipe made it (recipe_digest differs)",
    ]
