"""A store in memory that counts what is read from it, as `counted://`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import fsspec
from fsspec.implementations.memory import MemoryFileSystem


class CountedFiles(MemoryFileSystem):
    """Counts, since `counted` was entered.

    Attributes:
        reads, bytes: of ranges, by the file's name.
        looks: look-ups of single files, by name.
        listings: of folders, by path.
    """

    protocol = ("counted",)
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]
    reads: ClassVar[Counter[str]] = Counter()
    bytes: ClassVar[Counter[str]] = Counter()
    looks: ClassVar[Counter[str]] = Counter()
    listings: ClassVar[Counter[str]] = Counter()

    @classmethod
    def _strip_protocol(cls, path: Any) -> str:
        return MemoryFileSystem._strip_protocol(str(path).removeprefix("counted:/"))

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **more: Any) -> bytes:
        data: bytes = super().cat_file(path, start, end, **more)
        name = path.rpartition("/")[2]
        self.reads[name] += 1
        self.bytes[name] += len(data)
        return data

    def info(self, path: str, **more: Any) -> dict[str, Any]:
        self.looks[path.rpartition("/")[2]] += 1
        return dict(super().info(path, **more))

    def ls(self, path: str, detail: bool = True, **more: Any) -> list[Any]:
        self.listings[path] += 1
        return list(super().ls(path, detail, **more))


@contextmanager
def counted(folder: Path | None = None) -> Iterator[type[CountedFiles]]:
    """An empty store, or one that holds a folder of this machine at its root."""
    fsspec.register_implementation("counted", CountedFiles, clobber=True)
    CountedFiles.store.clear()
    files = fsspec.filesystem("counted")
    for path in sorted(folder.rglob("*") if folder else ()):
        if path.is_file():
            files.pipe_file(f"/{path.relative_to(folder)}", path.read_bytes())
    forget()
    yield CountedFiles
    CountedFiles.store.clear()


def forget() -> None:
    """Let all counts begin anew."""
    for counts in (CountedFiles.reads, CountedFiles.bytes, CountedFiles.looks, CountedFiles.listings):
        counts.clear()
