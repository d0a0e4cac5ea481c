"""An output folder on a disk. A file is written aside, flushed, and then given its name."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from actors.errors import OutputError

FORGOTTEN = 3600.0
"""Seconds after which a hidden file that was never given its name belongs to no living writer."""

_ASIDE = re.compile(r"\..+\.[0-9a-f]{32}")

_ADVICE = {
    errno.ENOSPC: "make room and run the same command again: what is published stays",
    errno.EDQUOT: "make room and run the same command again: what is published stays",
    errno.EROFS: "choose another folder, or mount it for writing",
    errno.EACCES: "choose another folder, or have its permissions changed",
    errno.EPERM: "choose another folder, or have its permissions changed",
}


class LocalFolder:
    """See `factory.storage.Storage`, whose methods these are."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.url = str(root)

    def exists(self, path: str) -> bool:
        with self._told("look for", path):
            return self._full(path).exists()

    def read(self, path: str) -> bytes:
        with self._told("read", path):
            return self._full(path).read_bytes()

    def open(self, path: str) -> IO[bytes]:
        with self._told("read", path):
            return self._full(path).open("rb")

    def names(self, folder: str) -> list[str]:
        with self._told("list", folder):
            try:
                with os.scandir(self._full(folder)) as entries:
                    return [entry.name for entry in entries if entry.is_file()]
            except FileNotFoundError:
                return []

    def top(self) -> list[str]:
        with self._told("list", ""):
            try:
                return [entry.name for entry in self.root.iterdir()]
            except FileNotFoundError:
                return []

    def publish(self, path: str, data: bytes) -> bool:
        target = self._full(path)
        with self._told("write", path):
            aside = _write_aside(target, data)
            try:
                os.link(aside, target)
            except FileExistsError:
                return False
            except OSError:
                # A file system without hard links: two writers at the same instant are not kept apart here.
                if target.exists():
                    return False
                aside.replace(target)
            finally:
                aside.unlink(missing_ok=True)
        return True

    def replace(self, path: str, data: bytes) -> None:
        target = self._full(path)
        with self._told("write", path):
            _rename(_write_aside(target, data), target)

    def upload(self, path: str, source: Path) -> None:
        target = self._full(path)
        with self._told("write", path):
            _rename(_copy_aside(target, source), target)

    def remove(self, path: str) -> None:
        target = self._full(path)
        with self._told("delete", path):
            if target.is_dir() and not target.is_symlink():
                shutil.rmtree(target)
            else:
                target.unlink(missing_ok=True)

    def tidy(self) -> int:
        before = time.time() - FORGOTTEN
        cleared = 0
        for folder, _, names in os.walk(self.root):
            for name in filter(_ASIDE.fullmatch, names):
                path = Path(folder, name)
                # Another run may clear it at the same moment, and a leftover that stays does no harm.
                with contextlib.suppress(OSError):
                    if path.stat().st_mtime < before:
                        path.unlink()
                        cleared += 1
        return cleared

    def _full(self, path: str) -> Path:
        return self.root / path

    @contextlib.contextmanager
    def _told(self, verb: str, path: str) -> Iterator[None]:
        """Turns what the disk says into an `OutputError`."""
        try:
            yield
        except FileNotFoundError as error:
            raise OutputError(f"{self.url}: {path} is missing") from error
        except OSError as error:
            advice = _ADVICE.get(error.errno or 0, "")
            what = error.strerror or str(error)
            if isinstance(error, FileExistsError | NotADirectoryError):
                what, advice = "a file is where a folder should be", "move it away, or choose another folder"
            where = self._full(path) if path else self.root
            raise OutputError(f"cannot {verb} {where}: {what}" + (f"; {advice}" if advice else "")) from error


def _write_aside(target: Path, data: bytes) -> Path:
    """Writes and flushes a hidden neighbour of `target`, which readers and `names` pass over."""
    with _aside(target) as (aside, stream):
        stream.write(data)
    return aside


def _copy_aside(target: Path, source: Path) -> Path:
    with source.open("rb") as origin, _aside(target) as (aside, stream):
        shutil.copyfileobj(origin, stream, 1 << 20)
    return aside


@contextlib.contextmanager
def _aside(target: Path) -> Iterator[tuple[Path, IO[bytes]]]:
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
    try:
        with aside.open("wb") as stream:
            yield aside, stream
            stream.flush()
            os.fsync(stream.fileno())
    except BaseException:
        with contextlib.suppress(OSError):
            aside.unlink(missing_ok=True)
        raise


def _rename(aside: Path, target: Path) -> None:
    try:
        aside.replace(target)
    except OSError:
        aside.unlink(missing_ok=True)
        raise
