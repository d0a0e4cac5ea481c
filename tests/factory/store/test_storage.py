"""Outputs on a disk: whole files or none, disks that are full or shut, and what killed writers leave."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from actors.errors import LockLostError, OutputError
from factory.store import bucket
from factory.store.fence import unfenced
from factory.store.retries import Patience
from factory.store.storage import Storage
from tests.patience import seconds

IN_A_MOUNT = 'mount -t tmpfs -o size=256k tmpfs "$1" && exec "$2" -c "$3" "$1"'
SHUT = 'mount -t tmpfs tmpfs "$1" && mount -o remount,ro,bind "$1" && exec "$2" -c "$3" "$1"'

FILL = """
import os, sys
from actors.errors import OutputError
from factory.store.storage import Storage
storage = Storage(sys.argv[1])
assert storage.publish("shards/000000.tar", b"x" * 100_000)
for write in (storage.publish, storage.replace):
    try:
        write("shards/000001.tar", b"x" * 1_000_000)
    except OutputError as error:
        print(error)
print(os.listdir(sys.argv[1] + "/shards"), len(storage.read("shards/000000.tar")))
"""


def files_of(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def elsewhere(mount: str, folder: Path, code: str) -> list[str]:
    """The printed lines of `code`, run with a file system of its own mounted at `folder`."""
    shell = [
        "unshare",
        "--map-root-user",
        "--mount",
        "sh",
        "-c",
        mount,
        "sh",
        str(folder),
        sys.executable,
        code,
    ]
    if subprocess.run(["unshare", "--map-root-user", "--mount", "true"], capture_output=True).returncode:
        pytest.skip("this machine lets no user mount a file system of their own")
    done = subprocess.run(
        shell, cwd=Path(__file__).parents[3], capture_output=True, text=True, timeout=seconds(120)
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_a_file_is_published_once(tmp_path):
    storage = Storage(str(tmp_path / "out"))
    assert storage.empty()
    assert storage.publish("shards/000000.tar", b"first")
    assert not storage.publish("shards/000000.tar", b"late")
    assert storage.read("shards/000000.tar") == b"first"
    storage.replace("shards/000000.tar", b"mended")
    assert storage.read("shards/000000.tar") == b"mended"
    assert files_of(tmp_path) == ["out", "out/shards", "out/shards/000000.tar"]
    assert not storage.empty() and storage.empty(besides=("shards",))


def test_a_file_of_this_machine_is_uploaded(tmp_path):
    (tmp_path / "drawn").write_bytes(bytes(range(256)) * 10_000)
    storage = Storage(str(tmp_path / "out"))
    storage.settle("plan.parquet", tmp_path / "drawn")
    with storage.open("plan.parquet") as stream:
        stream.seek(2_559_990)
        assert stream.read() == bytes(range(246, 256))
    assert files_of(tmp_path / "out") == ["plan.parquet"]


def test_what_is_absent(tmp_path):
    storage = Storage(str(tmp_path / "out"))
    assert not storage.exists("plan.parquet") and storage.names("stats") == []
    storage.remove("plan.parquet")
    for read in (storage.read, storage.open):
        with pytest.raises(OutputError, match=rf"{tmp_path}/out: plan\.parquet is missing"):
            read("plan.parquet")
    assert files_of(tmp_path) == []


def test_removing_folders_and_files(tmp_path):
    storage = Storage(str(tmp_path))
    storage.publish("stats/000000.json", b"{}")
    storage.publish("manifest.json", b"{}")
    with pytest.raises(OutputError, match=r"cannot delete .*stats: Is a directory"):
        storage.remove("stats")
    storage.remove_empty("stats")
    storage.remove("manifest.json")
    assert files_of(tmp_path) == ["stats", "stats/000000.json"]
    storage.remove("stats/000000.json")
    storage.remove_empty("stats")
    assert files_of(tmp_path) == []


def test_tidying_clears_what_killed_writers_left_and_nothing_else(tmp_path):
    storage = Storage(str(tmp_path))
    storage.publish("shards/000000.tar", b"whole")
    leftovers = [f".plan.parquet.{'a' * 32}", f"shards/.000001.tar.{'0123456789abcdef' * 2}"]
    kept = [".keep", f"shards/.000002.tar.{'b' * 32}", f"shards/.short.{'c' * 8}"]
    long_ago = time.time() - 3700
    for name in [*leftovers, *kept]:
        (tmp_path / name).write_bytes(b"half")
        os.utime(tmp_path / name, (long_ago, long_ago))
    os.utime(tmp_path / kept[1])  # of a writer that may be at work
    assert storage.names("shards") == ["000000.tar"]
    assert storage.tidy() == 2
    assert files_of(tmp_path) == sorted([*kept, "shards", "shards/000000.tar"])
    assert storage.tidy() == 0


def test_a_killed_writer_shows_nothing(tmp_path):
    """Killed by the limit on file sizes, whose signal Python does not catch once its default is back."""
    code = """
import resource, signal, sys
from factory.store.storage import Storage
signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
Storage(sys.argv[1]).publish("shards/000000.tar", b"x" * 1_000_000)
"""
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=Path(__file__).parents[3])
    assert done.returncode < 0
    storage = Storage(str(tmp_path))
    assert storage.names("shards") == [] and not storage.exists("shards/000000.tar")
    (left,) = (tmp_path / "shards").iterdir()
    assert left.stat().st_size == 100_000
    os.utime(left, (0, 0))
    assert storage.tidy() == 1 and storage.publish("shards/000000.tar", b"whole")


def test_a_full_disk_is_reported_and_leaves_nothing(tmp_path):
    (reported, again, there) = elsewhere(IN_A_MOUNT, tmp_path, FILL)
    assert (
        reported
        == again
        == (
            f"cannot write {tmp_path}/shards/000001.tar: No space left on device; "
            "make room and run the same command again: what is published stays"
        )
    )
    assert there == "['000000.tar'] 100000"


def test_a_folder_that_may_not_be_written_is_reported(tmp_path):
    code = FILL.replace('assert storage.publish("shards/000000.tar", b"x" * 100_000)', "").rpartition(
        "print"
    )[0]
    reported = elsewhere(SHUT, tmp_path, code)
    sentence = f"cannot write {tmp_path}/shards/000001.tar: Read-only file system; "
    assert reported == [sentence + "choose another folder, or mount it for writing"] * 2


def test_a_file_where_a_folder_should_be_is_reported(tmp_path):
    (tmp_path / "out").write_text("a note")
    storage = Storage(str(tmp_path / "out"))
    for act in (storage.publish, storage.replace):
        with pytest.raises(
            OutputError, match=r"cannot write .*/out/identity\.json: a file is where a folder should be"
        ):
            act("identity.json", b"{}")
    with pytest.raises(
        OutputError, match=r"cannot list .*/out: a file is where a folder should be; move it away"
    ):
        storage.empty()


def test_a_folder_where_a_file_should_be_is_reported(tmp_path):
    (tmp_path / "manifest.json").mkdir()
    with pytest.raises(OutputError, match=r"cannot write .*/manifest\.json: Is a directory"):
        Storage(str(tmp_path)).replace("manifest.json", b"{}")
    assert files_of(tmp_path) == ["manifest.json"]


@pytest.mark.parametrize(
    ("url", "words"), [("nosuch://bucket/out", "nosuch"), ("simplecache::s3://bucket/out", "chained URLs")]
)
def test_urls_that_cannot_be_outputs(url, words):
    with pytest.raises(OutputError, match=words):
        Storage(url)


@pytest.mark.parametrize(
    ("driver", "installed", "advice"),
    [
        ("GCSFileSystem", "2025.1.0", "install gcsfs>=2025.2.0"),
        ("AzureBlobFileSystem", "2024.7.0", "install adlfs>=2024.12.0"),
        ("S3FileSystem", "2024.12.0", "install s3fs>=2025.3.0"),
        ("SFTPFileSystem", "", "use a folder on a disk, s3://, gs:// or abfs://"),
        ("DropboxDriveFileSystem", "", "use a folder on a disk"),
    ],
)
def test_a_store_that_would_replace_what_it_should_create_is_refused(
    monkeypatch: pytest.MonkeyPatch, driver: str, installed: str, advice: str
):
    """gcsfs and adlfs take `mode="create"` without a word before these versions, as their sources show."""
    monkeypatch.setattr(bucket, "version", lambda package: installed)
    monkeypatch.setattr(bucket, "check_driver", bucket.check_driver.__wrapped__)
    files = type(driver, (MemoryFileSystem,), {})()
    storage = bucket.Bucket(files, "/refused", "store://refused", Patience())
    with pytest.raises(OutputError, match=advice):
        storage.publish("lock.json", b"{}", unfenced)
    assert not files.exists("/refused/lock.json")


@pytest.mark.parametrize(
    ("driver", "installed"),
    [("GCSFileSystem", "2025.2.0"), ("AzureBlobFileSystem", "2026.8.0"), ("S3FileSystem", "2025.10.0.post1")],
)
def test_newer_drivers_are_taken(monkeypatch: pytest.MonkeyPatch, driver: str, installed: str):
    monkeypatch.setattr(bucket, "version", lambda package: installed)
    bucket.check_driver.__wrapped__(driver, "store://taken")


def synced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of what is flushed to the disk from now on, in order."""
    paths: list[str] = []
    flush = os.fsync

    def noted(descriptor: int) -> None:
        flush(descriptor)
        paths.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))

    monkeypatch.setattr(os, "fsync", noted)
    return paths


def test_names_survive_a_power_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """After every change of a name, its folder is flushed; a new folder's name, too."""
    storage, flushed = Storage(str(tmp_path / "new" / "out")), synced(monkeypatch)
    storage.publish("shards/000000.tar", b"x")
    folders = [tmp_path / "new" / "out", tmp_path / "new", tmp_path]
    assert set(map(str, folders)) <= set(flushed[:3]) and flushed[-1] == f"{tmp_path}/new/out/shards"
    for change in (
        lambda: storage.replace("shards/000000.tar", b"y"),
        lambda: storage.remove("shards/000000.tar"),
        lambda: storage.settle("shards/000000.tar", b"z"),
    ):
        flushed.clear()
        change()
        assert flushed[-1] == f"{tmp_path}/new/out/shards"


def test_a_disk_that_cannot_flush_folders_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    flush = os.fsync

    def only_files(descriptor: int) -> None:
        if Path(f"/proc/self/fd/{descriptor}").resolve().is_dir():
            raise OSError(errno.EINVAL, "Invalid argument")
        flush(descriptor)

    monkeypatch.setattr(os, "fsync", only_files)
    storage = Storage(str(tmp_path))
    assert storage.publish("a", b"a") and storage.read("a") == b"a"
    storage.remove("a")
    assert storage.empty()


@pytest.mark.parametrize("successor", [True, False])
def test_a_run_that_lost_the_lock_removes_from_a_bucket_only_what_it_created(successor: bool):
    """The successor, of the same recipe, publishes the very same bytes while the first run is stopped."""
    storage = bucket.Bucket(MemoryFileSystem(), f"/taken-{successor}", "memory://taken", Patience())
    looks: list[str] = []

    def check() -> None:
        looks.append("look")
        if len(looks) > 1:
            raise LockLostError("taken over")
        if successor:
            assert storage.publish("stats/000000.json", b"{}", unfenced)

    with pytest.raises(LockLostError):
        storage.publish("stats/000000.json", b"{}", check)
    assert storage.exists("stats/000000.json") == successor


def test_a_file_with_other_content_is_not_moved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The lock of a successor is not away for a moment, in which the successor would find it lost."""
    storage = Storage(str(tmp_path))
    storage.publish("lock.json", b"theirs")
    flushed = synced(monkeypatch)
    storage.remove_if_same("lock.json", b"mine")
    assert flushed == [] and storage.read("lock.json") == b"theirs"
    storage.remove_if_same("lock.json", b"theirs")
    storage.remove_if_same("lock.json", b"theirs")
    assert flushed == [str(tmp_path)] and files_of(tmp_path) == []
