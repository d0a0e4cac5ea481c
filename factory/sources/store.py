"""Reading files on any fsspec store: without stale listings, with a version, several at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime
from typing import Any, TypeVar

import fsspec
from fsspec.implementations.local import LocalFileSystem

from actors.errors import Reject, SourceError

LARGEST_FILE = 256 << 20
"""Bytes above which an image's file is not read."""

_ETAGS = ("ETag", "etag", "blob_id")
_TIMES = ("mtime", "LastModified", "last_modified", "Last-Modified", "updated", "modified", "created")

Info = Mapping[str, Any]
Given = TypeVar("Given")
Read = TypeVar("Read")


def open_store(url: str) -> tuple[Any, str]:
    """The file system of a URL, and the path on it.

    Listings are not cached: a worker that lives for days must see that a file has changed.

    Raises:
        SourceError: an unknown protocol, or one whose package is not installed.
    """
    if "::" in url:
        raise SourceError(
            f"{url}: chained URLs cannot be a source; give the inner files a place of their own"
        )
    try:
        files, path = fsspec.core.url_to_fs(url, use_listings_cache=False)
    except (ImportError, ValueError) as error:
        raise SourceError(f"{url}: {error}") from error
    return files, str(path)


def info_of(files: Any, path: str) -> Info | None:
    """Size, type and times of a file or folder; None where there is none.

    Raises:
        SourceError: the place may not be read.
    """
    try:
        info: Info = files.info(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except PermissionError as error:
        raise not_permitted(files, path) from error
    return info


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
    """Whether a listing's entry already says enough for `version_of`, which those of web servers do not."""
    return any(info.get(name) is not None for name in (*_ETAGS, *_TIMES))


def read_bytes(files: Any, path: str, start: int = 0, end: int | None = None) -> bytes:
    """The bytes of a file, or those from `start` to before `end`.

    Raises:
        FileNotFoundError: it is not there.
        SourceError: it may not be read.
        OSError: the store gave another number of bytes than was asked for.
    """
    try:
        if end is None:
            return bytes(files.cat_file(path))
        data = bytes(files.cat_file(path, start=start, end=end)) if end > start else b""
    except PermissionError as error:
        raise not_permitted(files, path) from error
    if len(data) != end - start:
        url = files.unstrip_protocol(path)
        raise OSError(f"{url}: asked for {end - start:,} bytes from {start:,} on, and got {len(data):,}")
    return data


def missing(files: Any, path: str) -> Reject:
    """The reject for a file that was deleted since it was planned.

    Raises:
        SourceError: its folder on a disk is gone or empty. An unmounted disk says nothing about its items.
    """
    folder = files._parent(path)
    if isinstance(files, LocalFileSystem) and not (files.exists(folder) and files.ls(folder, detail=False)):
        raise SourceError(
            f"{files.unstrip_protocol(path)}: its folder is gone or empty; is a disk not mounted?"
        )
    return Reject("missing", "the file was there when the data set was planned, and is not any more")


def too_large(size: int) -> Reject:
    """The reject for an image's file above `LARGEST_FILE`."""
    return Reject("too_many_bytes", f"the file has {size:,} bytes; at most {LARGEST_FILE:,} are read")


def changed(url: str) -> SourceError:
    """The error for a file that is not as it was when it was planned."""
    return SourceError(f"source changed since it was planned: {url}; plan again into a new output")


def not_permitted(files: Any, path: str) -> SourceError:
    """The error for a place that exists and may not be read."""
    return SourceError(
        f"{files.unstrip_protocol(path)} may not be read: permission denied; grant it and resume"
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
