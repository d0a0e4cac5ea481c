"""An output folder on a disk. A file is written aside, flushed, and then given its name."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from actors.errors import OutputError
from factory.store.fence import Check

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
    """See `factory.store.storage.Storage`, whose methods these are."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.url = str(root)

    def exists(self, path: str) -> bool:
        with self._output_errors("look for", path):
            return self._full(path).exists()

    def read(self, path: str) -> bytes:
        with self._output_errors("read", path):
            return self._full(path).read_bytes()

    def open(self, path: str) -> IO[bytes]:
        with self._output_errors("read", path):
            return self._full(path).open("rb")

    def names(self, folder: str) -> list[str]:
        with self._output_errors("list", folder):
            try:
                with os.scandir(self._full(folder)) as entries:
                    return [entry.name for entry in entries if entry.is_file()]
            except FileNotFoundError:
                return []

    def sizes(self, folder: str) -> dict[str, int]:
        with self._output_errors("list", folder):
            try:
                with os.scandir(self._full(folder)) as entries:
                    return {entry.name: entry.stat().st_size for entry in entries if entry.is_file()}
            except FileNotFoundError:
                return {}

    def top(self) -> list[str]:
        with self._output_errors("list", ""):
            try:
                return [entry.name for entry in self.root.iterdir()]
            except FileNotFoundError:
                return []

    def publish(
        self, path: str, data: bytes | Path, check: Check, stays: Callable[[], bool] = lambda: False
    ) -> bool:
        """Creates the file; where the lock turns out to be lost, takes away what it created, and nothing else."""
        target = self._full(path)
        with self._output_errors("write", path), _aside(target, data) as aside:
            check()
            if not _name(aside, target):
                return False
            _sync_folder(target.parent)
            try:
                check()
            except BaseException:
                if not stays():
                    _take_away(target, lambda taken: _same_file(taken, aside))
                raise
        return True

    def replace(self, path: str, data: bytes, check: Check) -> None:
        target = self._full(path)
        with self._output_errors("write", path), _aside(target, data) as aside:
            check()
            aside.replace(target)
            _sync_folder(target.parent)
            check()

    def remove(self, path: str, check: Check) -> None:
        """Puts the file back where the lock turns out to be lost: it may be another run's."""

        def still_ours(taken: Path) -> bool:
            check()
            return True

        target = self._full(path)
        with self._output_errors("delete", path):
            if target.is_dir() and not target.is_symlink():
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            check()
            _take_away(target, still_ours)

    def remove_if_same(self, path: str, data: bytes) -> None:
        """A file with other content keeps its name all the while: a lock that is missing for a moment is lost."""
        target = self._full(path)
        with self._output_errors("delete", path), contextlib.suppress(FileNotFoundError):
            if target.read_bytes() == data:
                _take_away(target, lambda taken: taken.read_bytes() == data)

    def remove_empty(self, folder: str) -> None:
        # Whatever keeps the folder is the user's, or of a run that begins at this moment.
        with contextlib.suppress(OSError):
            self._full(folder).rmdir()

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
    def _output_errors(self, verb: str, path: str) -> Iterator[None]:
        """Raise errors of the disk as `OutputError`."""
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


@contextlib.contextmanager
def _aside(target: Path, data: bytes | Path) -> Iterator[Path]:
    """A hidden, flushed neighbour of `target`, which readers and `names` pass over; gone at the end."""
    _make_folder(target.parent)
    aside = _hidden(target)
    try:
        with aside.open("wb") as stream:
            if isinstance(data, Path):
                with data.open("rb") as origin:
                    shutil.copyfileobj(origin, stream, 1 << 20)
            else:
                stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        yield aside
    finally:
        with contextlib.suppress(OSError):
            aside.unlink(missing_ok=True)


def _hidden(target: Path) -> Path:
    return target.with_name(f".{target.name}.{uuid.uuid4().hex}")


def _name(aside: Path, target: Path) -> bool:
    """Gives the file its name; False where the name is taken."""
    try:
        os.link(aside, target)
    except FileExistsError:
        return False
    except OSError:
        # A file system without hard links: two writers at the same instant are not kept apart here.
        if target.exists():
            return False
        aside.replace(target)
    return True


def _take_away(target: Path, confirm: Callable[[Path], bool]) -> None:
    """Deletes a file in two steps: it is renamed, and deleted only if `confirm`, given its new path, agrees.

    Otherwise, and after an error, it gets its name back, unless the name has been given to another file meanwhile.
    """
    taken = _hidden(target)
    try:
        target.rename(taken)
    except FileNotFoundError:
        return
    agreed = False
    try:
        agreed = confirm(taken)
    finally:
        if not agreed:
            _name(taken, target)
        taken.unlink(missing_ok=True)
        _sync_folder(target.parent)


def _same_file(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except FileNotFoundError:  # without hard links, the file that was written aside has been renamed
        return True


def _make_folder(folder: Path) -> None:
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for path in missing:
        _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Makes names in a folder survive a power cut. Some file systems neither support nor need it."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
