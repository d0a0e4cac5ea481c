"""An output folder in an object store, at any fsspec URL. One request writes a whole file; errors are explained."""

from __future__ import annotations

import contextlib
import io
import math
import re
from collections.abc import Callable, Mapping
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import IO, Any, TypeVar

from actors.errors import FlawforgeError, LockLostError, OutputError
from factory.store.errors import clearer, meaning
from factory.store.fence import Check
from factory.store.remote_file import RemoteFile
from factory.store.retries import Patience, answer, may_pass, persist

READ_AHEAD = 1 << 20
"""Bytes that a file opened for reading fetches at least, by one request."""

Result = TypeVar("Result")


DRIVERS = {
    "S3FileSystem": ("s3fs", "2025.3.0"),
    "GCSFileSystem": ("gcsfs", "2025.2.0"),
    "AzureBlobFileSystem": ("adlfs", "2024.12.0"),
}
"""Drivers that can create a file only if it does not exist, each with the first version known to do so.

Older ones of gcsfs and adlfs take `mode="create"` without a word, and overwrite."""


@cache
def check_driver(name: str, url: str) -> None:
    """Raises OutputError for a store whose driver cannot create a file without replacing one.

    Args:
        name: of the driver's class.
        url: the output, for the message.
    """
    if name == "MemoryFileSystem":  # of one process; for tests
        return
    if name not in DRIVERS:
        raise OutputError(
            f"{url}: {name} cannot create a file without replacing one, so that two runs could mix their shards; "
            "use a folder on a disk, s3://, gs:// or abfs://"
        )
    package, least = DRIVERS[name]
    installed = version(package)
    if _numbers(installed) < _numbers(least):
        raise OutputError(
            f"{url}: {package} {installed} replaces files that it should only create, so that two runs could mix their "
            f"shards; install {package}>={least}"
        )


def _numbers(release: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", release)[:3])


class Bucket:
    """See `factory.store.storage.Storage`, whose methods these are.

    Requests are retried here after errors that may pass, in addition to the retries of the store's own driver: botocore
    gives up within seconds, and s3fs neither checks the length of what it reads nor knows that a failed write may have
    succeeded.

    Args:
        files: an fsspec file system that caches no listings.
        root: the folder on it.
        url: the folder, for messages.
    """

    def __init__(self, files: Any, root: str, url: str, patience: Patience) -> None:
        self.files, self.root, self.url, self.patience = files, root, url, patience

    def exists(self, path: str) -> bool:
        return self._info(path) is not None

    def read(self, path: str) -> bytes:
        return self._request("read", path, lambda: self._whole(path))

    def open(self, path: str) -> IO[bytes]:
        size = self._request("read", path, lambda: int(self.files.info(self._full(path))["size"]))
        remote = RemoteFile(
            lambda start, end: self._request("read", path, lambda: self._part(path, start, end)), size
        )
        return io.BufferedReader(remote, READ_AHEAD)

    def names(self, folder: str) -> list[str]:
        entries = self._list(self._full(folder))
        return [_last(entry["name"]) for entry in entries if entry["type"] == "file"]

    def sizes(self, folder: str) -> dict[str, int]:
        entries = self._list(self._full(folder))
        return {_last(entry["name"]): int(entry["size"] or 0) for entry in entries if entry["type"] == "file"}

    def top(self) -> list[str]:
        return [_last(entry["name"]) for entry in self._list(self.root)]

    def publish(
        self, path: str, data: bytes | Path, check: Check, stays: Callable[[], bool] = lambda: False
    ) -> bool:
        """A server may have stored a file and answered with an error, so that the retry finds that it exists.

        A file of the same bytes therefore counts as the one that was to be written. Where the lock turns out to be
        lost, only a file that this call has surely created is removed: those bytes may be the new holder's.
        """
        check_driver(type(self.files).__name__, self.url)
        full = self._full(path)

        def create() -> bool:
            check()
            try:
                if isinstance(data, Path):
                    self.files.put_file(str(data), full, mode="create")
                else:
                    self.files.pipe_file(full, data, mode="create")
            except Exception as error:  # drivers raise many kinds, and S3's copies do not name the condition
                if isinstance(error, FileExistsError) or answer(error)[0] == 412:
                    return False
                raise
            return True

        created = self._request("write", path, create)
        if not (created or self._holds(path, data)):
            return False
        try:
            check()
        except LockLostError:
            if created and not stays():
                self.remove_if_same(path, data)
            raise
        return True

    def replace(self, path: str, data: bytes, check: Check) -> None:
        def write() -> None:
            check()
            self.files.pipe_file(self._full(path), data)

        self._request("write", path, write)
        check()

    def remove(self, path: str, check: Check) -> None:
        """Unlike a disk, a bucket cannot put back what was deleted: see docs/watching.md on what then happens."""

        def delete() -> None:
            check()
            self._delete(path)

        self._request("delete", path, delete)
        check()

    def remove_if_same(self, path: str, data: bytes | Path) -> None:
        if self._holds(path, data):
            self._request("delete", path, lambda: self._delete(path))

    def _delete(self, path: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            self.files.rm_file(self._full(path))

    def _holds(self, path: str, data: bytes | Path) -> bool:
        info = self._info(path)
        size = data.stat().st_size if isinstance(data, Path) else len(data)
        if info is None or info["size"] != size:
            return False
        return self.read(path) == (data.read_bytes() if isinstance(data, Path) else data)

    def _info(self, path: str) -> Mapping[str, Any] | None:
        def look() -> Mapping[str, Any] | None:
            try:
                info: Mapping[str, Any] = self.files.info(self._full(path))
            except FileNotFoundError:
                return None
            return info

        return self._request("look for", path, look)

    def _list(self, folder: str) -> list[Mapping[str, Any]]:
        """Entries of a folder; none where there is no such folder.

        The empty object by which web consoles mark a folder is not one of them.
        """

        def look() -> list[Mapping[str, Any]]:
            try:
                entries: list[Mapping[str, Any]] = self.files.ls(folder, detail=True)
            except FileNotFoundError:
                return []
            return [entry for entry in entries if str(entry["name"]).strip("/") != folder.strip("/")]

        return self._request("list", folder.removeprefix(self.root).strip("/"), look)

    def _whole(self, path: str) -> bytes:
        size = int(self.files.info(self._full(path))["size"])
        return self._part(path, 0, size) if size else b""

    def _part(self, path: str, start: int, end: int) -> bytes:
        """By one request: several at once would leave zeros where s3fs gets less than it requested."""
        data = bytes(self.files.cat_file(self._full(path), start=start, end=end))
        if len(data) != end - start:
            raise OSError(f"{len(data):,} bytes came, where {end - start:,} were requested")
        return data

    def _request(self, verb: str, path: str, request: Callable[[], Result]) -> Result:
        """Send a request with retries, and raise its last error as an `OutputError`."""
        what = f"{self.url}: cannot {verb} {path}".rstrip()
        try:
            return persist(request, what, self.patience)
        except FlawforgeError:
            raise
        except Exception as error:  # every store's driver has its own kinds
            raise self._explained(what, path, error) from error

    def _explained(self, what: str, path: str, error: Exception) -> OutputError:
        found = None if may_pass(error) else meaning(clearer(self.files, self._full(path), error))
        if found and not found.no_bucket:
            return OutputError(f"{what}: {found.words}")
        if isinstance(error, FileNotFoundError):
            bucket = self.root.strip("/").partition("/")[0]
            if self._bucket_exists(bucket):
                return OutputError(f"{self.url}: {path} is missing")
            return OutputError(f"{what}: there is no bucket {bucket!r}; create it, or correct the URL")
        if isinstance(error, PermissionError):
            return OutputError(
                f"{what}: {_words(error)}; the credentials must allow to list, read, write and delete there "
                "(on S3: ListBucket, GetObject, PutObject, DeleteObject)"
            )
        advice = "look it up in the store's documentation"
        if may_pass(error):
            advice = (
                f"gave up after {math.ceil(self.patience.seconds)} seconds of attempts; see whether the store "
                "and the network are well, then run the same command again: what is published stays"
            )
        return OutputError(f"{what}: {_words(error)}; {advice}")

    def _bucket_exists(self, bucket: str) -> bool:
        try:
            return bool(self.files.exists(bucket))
        except Exception:  # the result only affects the wording of a message
            return True

    def _full(self, path: str) -> str:
        return f"{self.root}/{path}"


def _last(name: object) -> str:
    return str(name).rstrip("/").rsplit("/", 1)[-1]


def _words(error: Exception) -> str:
    status, code = answer(error)
    message = str(error) or type(error).__name__
    codes = " ".join(str(part) for part in (status, code if code != str(status) else "") if part)
    return f"{message} ({codes})" if codes else message
