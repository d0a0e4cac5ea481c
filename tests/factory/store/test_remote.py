"""Stores in trouble: transient errors are retried, others are reported at once."""

from __future__ import annotations

import http.server
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from actors.errors import Reject, SourceError
from factory.output.reference import Raw, Reference, Source
from factory.sources.images import ImagesSource
from factory.sources.parquet import ParquetSource
from factory.store import remote
from factory.store.retries import Patience


@pytest.fixture(autouse=True)
def brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "PATIENCE", Patience(1, 0.001, 0.01))
    monkeypatch.setattr(remote, "PAUSE_BEFORE_SECOND_LOOK", 0.001)


@pytest.fixture
def memory() -> Iterator[MemoryFileSystem]:
    files = MemoryFileSystem()
    files.store.clear()
    files.pipe_file("/shelf/a.png", b"image a")
    yield files
    files.store.clear()


def read(source: Source, references: Sequence[Reference]) -> list[Raw | Reject]:
    return [raw for _, raw in source.read(references)]


class Scripted:
    """A method of a file system that does other things first: raises errors, or gives what it is given."""

    def __init__(self, patch: pytest.MonkeyPatch, method: str, *instead: object) -> None:
        self.left, self.calls = list(instead), 0
        whole = getattr(MemoryFileSystem, method)

        def called(files: Any, *given: Any, **named: Any) -> Any:
            self.calls += 1
            if not self.left:
                return whole(files, *given, **named)
            result = self.left.pop(0)
            if isinstance(result, Exception):
                raise result
            return result

        patch.setattr(MemoryFileSystem, method, called)


def answered(status: int, kind: type[Exception] = OSError) -> Exception:
    error = kind(f"status {status}")
    error.status = status  # type: ignore[attr-defined]
    return error


@pytest.mark.parametrize(
    "trouble", [TimeoutError(), ConnectionResetError(), answered(503), answered(429), b"ima"]
)
def test_what_passes_is_borne_with(
    memory: MemoryFileSystem, monkeypatch: pytest.MonkeyPatch, trouble: object
) -> None:
    source = ImagesSource(["memory://shelf"])
    listed = list(source.list())
    reads = Scripted(monkeypatch, "cat_file", trouble, trouble)
    assert read(source, listed) == [Raw(b"image a", None, "")]
    assert reads.calls == 3
    if isinstance(trouble, Exception):
        looks, lists = Scripted(monkeypatch, "info", trouble), Scripted(monkeypatch, "ls", trouble)
        assert list(source.list()) == listed
        assert looks.calls > 1
        assert lists.calls > 1


@pytest.mark.parametrize("lasting", [PermissionError("no"), answered(403), answered(401)])
def test_what_lasts_is_reported_at_once(
    memory: MemoryFileSystem, monkeypatch: pytest.MonkeyPatch, lasting: Exception
) -> None:
    source = ImagesSource(["memory://shelf"])
    listed = list(source.list())
    reads = Scripted(monkeypatch, "cat_file", *[lasting] * 9)
    with pytest.raises(SourceError, match=r"memory:///?shelf/a\.png may not be read"):
        read(source, listed)
    assert reads.calls == 1


def test_a_store_that_stays_in_trouble_rejects_no_item(
    memory: MemoryFileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "PATIENCE", Patience(0.05, 0.001, 0.01))
    source = ImagesSource(["memory://shelf"])
    listed = list(source.list())
    for trouble in (ConnectionResetError(), answered(503, FileNotFoundError), answered(500, Exception)):
        with monkeypatch.context() as patch:
            Scripted(patch, "info", *[trouble] * 9999)
            with pytest.raises(OSError, match="no better answer") as caught:
                read(source, listed)
            assert not isinstance(caught.value, FileNotFoundError)


def test_a_missing_file_is_looked_for_twice(
    memory: MemoryFileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = ImagesSource(["memory://shelf"])
    listed = list(source.list())
    with monkeypatch.context() as patch:
        Scripted(patch, "info", FileNotFoundError())
        with pytest.raises(OSError, match="not found at first, and exists now"):
            read(source, listed)
    memory.rm("/shelf/a.png")
    looks = Scripted(monkeypatch, "info")
    (gone,) = read(source, listed)
    assert isinstance(gone, Reject)
    assert gone.reason == "missing"
    assert looks.calls == 2


class Web(http.server.SimpleHTTPRequestHandler):
    """Serves a folder as simple servers do, without ranges; what a file's name says goes wrong."""

    asked: Counter[str]

    def send_head(self) -> Any:
        name = self.path.rpartition("/")[2]
        self.asked[name] += 1
        if "busy" in name and self.asked[name] <= 2:
            return self.send_error(503)
        if name.startswith(("403", "410", "451")):
            return self.send_error(int(name[:3]))
        return super().send_head()

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def web(folder: Path) -> Iterator[str]:
    handler = type("Handler", (Web,), {"asked": Counter[str]()})

    def make(*given: Any) -> Any:
        return handler(*given, directory=str(folder))

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), make) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_cells_may_name_places_on_web_servers(tmp_path: Path) -> None:
    (tmp_path / "good.png").write_bytes(b"good")
    (tmp_path / "busy.png").write_bytes(b"busy")
    names = {
        "good.png": None,
        "gone.png": "missing",
        "403.png": "not_permitted",
        "410.png": "missing",
        "451.png": "not_served",
        "busy.png": None,
    }
    with web(tmp_path) as root:
        pq.write_table(pa.table({"url": [f"{root}/{name}" for name in names]}), tmp_path / "a.parquet")
        source = ParquetSource([str(tmp_path / "a.parquet")], image=["url"], allow=[root])
        found = read(source, list(source.list()))
    assert [raw.reason if isinstance(raw, Reject) else None for raw in found] == list(names.values())
    assert [raw.image for raw in found if isinstance(raw, Raw)] == [b"good", b"busy"]


def test_files_on_web_servers(tmp_path: Path) -> None:
    for name in ("a.png", "b.png", "c.txt"):
        (tmp_path / name).write_bytes(f"bytes of {name}".encode())
    (tmp_path / "large.parquet").write_bytes(bytes(3 << 20) + b"PAR1")
    with web(tmp_path) as root:
        source = ImagesSource([f"{root}/a.png"])
        assert read(source, list(source.list())) == [Raw(b"bytes of a.png", None, "")]
        source = ImagesSource([f"{root}/*.png"])
        assert [item.url for item in source.list()] == [f"{root}/a.png", f"{root}/b.png"]
        with pytest.raises(SourceError, match="gives whole files only; copy it"):
            list(ParquetSource([f"{root}/large.parquet"], image=["image"]).list())
        with pytest.raises(SourceError, match="no such file"):
            list(ImagesSource([f"{root}/z.png"]).list())
