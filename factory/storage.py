"""The output folder, on a disk or in a bucket. What becomes visible there is whole."""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Collection
from pathlib import Path
from typing import IO, Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from actors.errors import OutputError


class Storage:
    """A folder at any fsspec URL, with writes that are seen whole or not at all.

    Args:
        url: a local path, or `s3://bucket/folder` and the like.
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/") or "/"
        try:
            self.files, root = fsspec.core.url_to_fs(self.url)
        except (ImportError, ValueError) as error:
            raise OutputError(f"{url}: {error}") from error
        self._root = str(root).rstrip("/")
        if self.local is not None:
            # Workers of a cluster have a working folder of their own.
            self.url = self._root

    @property
    def local(self) -> Path | None:
        """The folder as a path, where it is on a disk."""
        return Path(self._root) if isinstance(self.files, LocalFileSystem) else None

    def exists(self, path: str) -> bool:
        return bool(self.files.exists(self._full(path)))

    def read(self, path: str) -> bytes:
        """Raises OutputError when the file is not there."""
        try:
            return bytes(self.files.cat_file(self._full(path)))
        except FileNotFoundError:
            raise OutputError(f"{self.url}: {path} is missing") from None

    def open(self, path: str) -> IO[bytes]:
        """Opens a file for reading at any offset."""
        try:
            return self.files.open(self._full(path), "rb")  # type: ignore[no-any-return]
        except FileNotFoundError:
            raise OutputError(f"{self.url}: {path} is missing") from None

    def names(self, folder: str) -> list[str]:
        """File names in a folder, sorted; empty where there is no such folder."""
        self.files.invalidate_cache()
        try:
            entries: list[dict[str, Any]] = self.files.ls(self._full(folder), detail=True)
        except FileNotFoundError:
            return []
        names = (str(entry["name"]).rsplit("/", 1)[-1] for entry in entries if entry["type"] == "file")
        return sorted(name for name in names if not name.startswith("."))

    def empty(self, besides: Collection[str] = ()) -> bool:
        """Whether nothing is in the output but the named files and hidden ones."""
        self.files.invalidate_cache()
        try:
            entries = self.files.ls(self._root or "/", detail=False)
        except FileNotFoundError:
            return True
        names = {str(entry).rstrip("/").rsplit("/", 1)[-1] for entry in entries}
        return all(name in besides or name.startswith(".") for name in names)

    def publish(self, path: str, data: bytes) -> bool:
        """Writes a file that must not be there yet.

        Returns:
            False, with nothing changed, where the file exists already: a late writer never replaces it.
        """
        full = self._full(path)
        if self.local is None:
            try:
                self.files.pipe_file(full, data, mode="create")
            except FileExistsError:
                return False
            return True
        aside = self._aside(full, data)
        try:
            os.link(aside, full)
        except FileExistsError:
            return False
        except OSError:
            # A file system without hard links: two writers at the same instant are not kept apart here.
            if Path(full).exists():
                return False
            aside.replace(full)
        finally:
            aside.unlink(missing_ok=True)
        return True

    def replace(self, path: str, data: bytes) -> None:
        """Writes a file whole, over an older one if there is one."""
        full = self._full(path)
        if self.local is None:
            self.files.pipe_file(full, data)
        else:
            self._aside(full, data).replace(full)

    def remove(self, path: str) -> None:
        """Deletes a file or a folder of this output; absent ones are no error."""
        full = self._full(path)
        if self.files.exists(full):
            self.files.rm(full, recursive=True)

    def _aside(self, full: str, data: bytes) -> Path:
        """Writes and flushes a hidden neighbour of `full`, which readers and `names` pass over."""
        target = Path(full)
        aside = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
        try:
            aside.parent.mkdir(parents=True, exist_ok=True)
            with aside.open("wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
        except OSError as error:
            with contextlib.suppress(OSError):
                aside.unlink(missing_ok=True)
            raise OutputError(f"cannot write {full}: {error.strerror or error}") from error
        return aside

    def _full(self, path: str) -> str:
        return f"{self._root}/{path}"
