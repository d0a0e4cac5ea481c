"""Reading files on any fsspec store: patiently, without stale listings, with a version, several at a time."""

from __future__ import annotations

import io
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime
from errno import ELOOP, ENAMETOOLONG
from functools import partial
from typing import IO, Any, TypeVar

import fsspec
from fsspec.implementations.local import LocalFileSystem

from actors.errors import (
    ArchivedError,
    EncodedAnswerError,
    NoBucketError,
    Reject,
    SourceError,
    TooManyBytesError,
)
from actors.redaction import scrub
from factory.store import hub, web
from factory.store.credentials import reveal
from factory.store.errors import ANONYMOUS, clearer, meaning
from factory.store.paths import url_of
from factory.store.remote_file import RemoteFile
from factory.store.retries import Patience, answer, may_pass, persist

PATIENCE = Patience()
"""With stores in the network."""

PAUSE_BEFORE_SECOND_LOOK = 1.0
"""Seconds after which a request for a file that a store in the network did not find is repeated."""

LARGEST_FILE = 256 << 20
"""Bytes above which an image's file is not read."""

_ETAGS = ("ETag", "etag", "blob_id")
_TIMES = ("mtime", "LastModified", "last_modified", "Last-Modified", "updated", "modified", "created")

_FORBIDDEN = (401, 403)
_NOTHING_THERE = (ELOOP, ENAMETOOLONG)
"""A disk's errors for a link that leads to itself, and for a name that no file can have."""


class SlowAnswerError(OSError):
    """A web server took the connection and then did not answer in time, again and again."""


Info = Mapping[str, Any]
Given = TypeVar("Given")
Read = TypeVar("Read")


def open_store(url: str) -> tuple[Any, str]:
    """The file system of a URL, and the path on it; a redacted URL gets its secrets back, see `credentials`.

    Listings are not cached: a worker that lives for days must see that a file has changed.

    Raises:
        SourceError: an unknown protocol, or one whose package is not installed.
    """
    if "::" in url:
        raise SourceError(
            f"{url}: chained URLs cannot be a source; give the inner files a place of their own"
        )
    more = web.options(url.partition("://")[0].lower())
    try:
        files, path = fsspec.core.url_to_fs(reveal(url), use_listings_cache=False, **more)
    except (ImportError, ValueError) as error:
        raise SourceError(f"{url}: {error}") from error
    return files, str(path)


def info_of(files: Any, path: str) -> Info | None:
    """Size, type and times of a file or folder; None if it does not exist.

    Raises:
        SourceError: the place may not be read.
        OSError: the store gave no answer.
    """

    def look() -> Info | None:
        try:
            info: Info = hub.info(files, path) if hub.is_hub(files) else files.info(path)
        except (FileNotFoundError, NotADirectoryError) as error:
            cause = error.__cause__  # of a web server: fsspec reports all of its errors as a missing file
            if isinstance(cause, Exception) and may_pass(cause) and not isinstance(cause, ValueError):
                raise OSError(str(cause) or type(cause).__name__) from cause
            if _is_no_answer(error) or meaning(clearer(files, path, error)):
                raise
            return None
        except OSError as error:
            if error.errno in _NOTHING_THERE:
                return None
            raise
        return info

    return _persisted(files, path, look)


def entries(files: Any, folder: str) -> list[Info]:
    """What lies in a folder; nothing where there is no such folder.

    Raises:
        SourceError: the folder may not be read.
        OSError: the store gave no answer.
    """

    def look() -> list[Info]:
        try:
            listed: list[Info] = (
                hub.entries(files, folder) if hub.is_hub(files) else files.ls(folder, detail=True)
            )
        except FileNotFoundError as error:
            if _is_no_answer(error) or meaning(error):
                raise
            return []
        return listed

    return _persisted(files, folder, look)


def version_of(info: Info) -> str:
    """The state of a file in a few characters: its etag where the store has one, else its size and time.

    Listings and single look-ups of one file must agree, though they spell times differently.
    """
    for name in _ETAGS:
        if info.get(name):
            return str(info[name]).strip('"')
    time = next((info[name] for name in _TIMES if info.get(name) is not None), "")
    return f"{info.get('size')}-{time.timestamp() if isinstance(time, datetime) else time}"


def has_version(info: Info) -> bool:
    """Whether a listing's entry is sufficient for `version_of`; entries of web servers are not."""
    return any(info.get(name) is not None for name in (*_ETAGS, *_TIMES))


def read_file(files: Any, info: Info) -> bytes:
    """All bytes of a file.

    Args:
        info: the file as the store reports it.

    Raises:
        Reject: `archived`, `too_many_bytes`, `not_served` or `timed_out`.
        FileNotFoundError: it is missing.
        SourceError: it may not be read.
        OSError: the store failed, or gave another number of bytes than it promised.
    """
    path, size = info["name"], info.get("size")
    try:
        if size is None or _is_local(files) or is_web(files):
            return _persisted(files, path, lambda: bytes(files.cat_file(path)))
        return read_bytes(files, path, 0, size)
    except ArchivedError as error:
        raise Reject("archived", str(error)) from None
    except SlowAnswerError as error:
        raise timed_out(error) from None
    except TooManyBytesError:
        raise Reject(
            "too_many_bytes", f"more than {web.LARGEST_BODY:,} bytes, which is all that is read of an answer"
        ) from None
    except EncodedAnswerError as error:
        raise Reject("not_served", str(error)) from None


def read_bytes(files: Any, path: str, start: int, end: int) -> bytes:
    """The bytes of a file from `start` to before `end`; raises as `read_file` does."""
    if end <= start:
        return b""

    def read() -> bytes:
        if hub.is_hub(files):
            data = hub.part(files, path, start, end)
        else:
            try:
                data = bytes(files.cat_file(path, start=start, end=end))
            except TooManyBytesError:
                raise _whole_files_only(files, path) from None
        if len(data) > end - start:
            raise _whole_files_only(files, path)
        if len(data) < end - start:
            raise OSError(
                f"{url_of(files, path)}: asked for {end - start:,} bytes from {start:,} on, and got {len(data):,}"
            )
        return data

    return _persisted(files, path, read)


def size_of(files: Any, path: str, info: Info) -> int:
    """Size of a file in bytes; raise SourceError if its store does not report it."""
    size: int | None = info.get("size")
    if size is None:
        raise _whole_files_only(files, path)
    return size


def open_file(files: Any, path: str, info: Info, block: int) -> IO[bytes]:
    """A file for a reader of small pieces; requests to a store in the network are for `block` bytes each."""
    if _is_local(files):
        stream: IO[bytes] = files.open(path, "rb")
        return stream
    size = size_of(files, path, info)
    return io.BufferedReader(RemoteFile(partial(read_bytes, files, path), size), block)


def state_of(url: str) -> str:
    """The version of a file that was planned.

    Raises:
        SourceError: it is gone.
    """
    files, path = open_store(url)
    info = info_of(files, path)
    if info is None:
        raise gone(url)
    return version_of(info)


def missing(files: Any, path: str) -> Reject:
    """The reject for a file that was deleted since it was planned.

    Raises:
        SourceError: its folder on a disk is gone or empty. An unmounted disk is no evidence about its items.
        OSError: it was not found a moment ago, and exists at a second look.
    """
    folder = files._parent(path)
    if _is_local(files):
        if not (files.exists(folder) and files.ls(folder, detail=False)):
            raise SourceError(f"{url_of(files, path)}: its folder is gone or empty; is a disk not mounted?")
    elif not is_web(files):
        time.sleep(PAUSE_BEFORE_SECOND_LOOK)
        if info_of(files, path) is not None:
            raise OSError(f"{url_of(files, path)} was not found at first, and exists now")
    return Reject("missing", "the file was there when the data set was planned, and is not any more")


def timed_out(error: Exception) -> Reject:
    """The reject for a file whose server was too slow, again and again."""
    return Reject("timed_out", f"{error}; leave it out, or fetch it first")


def too_large(size: int) -> Reject:
    """The reject for an image's file above `LARGEST_FILE`."""
    return Reject("too_many_bytes", f"the file has {size:,} bytes; at most {LARGEST_FILE:,} are read")


def gone(url: str) -> SourceError:
    """The error for a file that was deleted since it was planned, and all its items with it."""
    return SourceError(f"source is gone since it was planned: {url}; bring it back and resume")


def changed(url: str) -> SourceError:
    """The error for a file that is not as it was when it was planned."""
    return SourceError(f"source changed since it was planned: {url}; plan again into a new output")


def not_permitted(files: Any, path: str) -> SourceError:
    """The error for a place that exists and may not be read."""
    words = f"{url_of(files, path)} may not be read: permission denied; grant it and resume"
    if is_web(files):
        words += " (outputs keep no signatures or passwords of URLs: give them anew with --set 'source.urls=[...]')"
    return SourceError(words)


def _persisted(files: Any, path: str, request: Callable[[], Read]) -> Read:
    """Send a request to a store, and retry it after errors that may pass; explain other errors.

    Raises:
        SourceError: the place may not be read.
        OSError: patience is at its end.
    """
    url = url_of(files, path)
    try:
        return request() if _is_local(files) else persist(_explaining_the_hub(url, request), url, PATIENCE)
    except SourceError:
        raise
    except Exception as error:  # every store's driver has its own kinds
        explained = _explained(files, path, error)
        if explained is None:
            raise
        raise explained from error


def _explained(files: Any, path: str, error: Exception) -> Exception | None:
    """A store's error in words for a person; None where it speaks for itself, or is not the store's."""
    if _is_local(files):
        return not_permitted(files, path) if isinstance(error, PermissionError) else None
    url = url_of(files, path)
    if is_web(files) and web.is_slow(error):
        return SlowAnswerError(
            f"{url}: the server took the connection, and was too slow: {scrub(str(error))}"
        )
    if isinstance(error, TimeoutError):
        return None
    found = meaning(clearer(files, path, error))
    if found:
        kind = ArchivedError if found.archived else NoBucketError if found.no_bucket else SourceError
        return kind(f"{url}: {found.words}{f'; {ANONYMOUS}' if found.perhaps_public else ''}")
    if isinstance(error, PermissionError) or answer(error)[0] in _FORBIDDEN:
        return not_permitted(files, path)
    if may_pass(error):
        message = scrub(str(error)) or type(error).__name__
        return OSError(f"{url}: {message}; the store gives no better answer")
    return None


def _explaining_the_hub(url: str, request: Callable[[], Read]) -> Callable[[], Read]:
    """A request that raises lasting errors of the hub as errors that are not retried."""

    def call() -> Read:
        try:
            return request()
        except Exception as error:
            explained = hub.explained(url, error)
            if explained:
                raise explained from error
            raise

    return call


def _is_no_answer(error: Exception) -> bool:
    """Whether an error only looks like a missing file."""
    return may_pass(error) or answer(error)[0] in _FORBIDDEN or hub.explained("", error) is not None


def _is_local(files: Any) -> bool:
    return isinstance(files, LocalFileSystem)


def is_web(files: Any) -> bool:
    """Whether a file system is that of web servers."""
    return "http" in files.protocol


def _whole_files_only(files: Any, path: str) -> SourceError:
    return SourceError(
        f"{url_of(files, path)}: its server gives whole files only; copy it to a disk or a bucket"
    )


def read_ahead(read: Callable[[Given], Read], items: Iterable[Given], threads: int) -> Iterator[Read]:
    """`map`, with up to `threads` reads under way: a store in the network answers late, but many at once.

    Results keep the order of the items. An error is raised in its turn, and ends the reading.
    """
    with ThreadPoolExecutor(threads, thread_name_prefix="source") as pool:
        under_way: deque[Future[Read]] = deque()
        try:
            for item in items:
                if len(under_way) == threads:
                    yield under_way.popleft().result()
                under_way.append(pool.submit(read, item))
            while under_way:
                yield under_way.popleft().result()
        finally:
            for future in under_way:
                future.cancel()
