"""What a Parquet cell says of an image: its bytes, or the place where they are. Cells come from outside."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from actors.errors import Reject, SourceError
from factory.retries import answer, may_pass
from factory.sources import store

_LOCAL = ("file", "local")
_ANYWHERE = ("http", "https", "s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "hf")
"""Protocols that a cell may name, beside that of its own Parquet file."""


def bytes_in(cell: Any, url: str) -> bytes | None:
    """An image file's bytes; None for a cell that is null or empty.

    Args:
        cell: bytes; Hugging Face's struct, whose `bytes` count before its `path`; or text, which is an fsspec URL or a
            path that begins in the Parquet file's folder.
        url: the Parquet file's.

    Raises:
        Reject: `too_many_bytes`, `bad_cell`, `bad_url`, `unsafe_path`, `missing`, `not_permitted` or `not_served`.
        SourceError: a place other than a web server may not be read, or a disk is not mounted.
        OSError: a store failed.
    """
    if isinstance(cell, Reject):
        raise cell
    if isinstance(cell, Mapping):
        cell = cell.get("path") if cell.get("bytes") is None else cell["bytes"]
    if cell is None:
        return None
    if isinstance(cell, str):
        return _fetch(_place(cell.strip(), url)) if cell.strip() else None
    if not isinstance(cell, bytes):
        raise Reject("bad_cell", f"the cell holds a {type(cell).__name__}, neither bytes nor text")
    if len(cell) > store.LARGEST_FILE:
        raise store.too_large(len(cell))
    return cell


def _place(text: str, url: str) -> str:
    """The full URL that a cell's text stands for."""
    own = url.partition("://")[0]
    protocol, colon, _ = text.partition("://")
    if "::" in text or "\0" in text:
        raise Reject("bad_url", f"{text!r:.200} is chained, or holds a zero byte")
    absolute = text.startswith("/")
    if (protocol in _LOCAL if colon else absolute) and own not in _LOCAL:
        raise Reject("unsafe_path", f"{text!r:.200} lies on a disk, and its Parquet file does not")
    if colon:
        if protocol not in (own, *_LOCAL, *_ANYWHERE):
            raise Reject("bad_url", f"{text!r:.200} names a protocol that cells may not name")
        return text
    if ".." in text.replace("\\", "/").split("/"):
        raise Reject("unsafe_path", f"{text!r:.200} leads out of the Parquet file's folder")
    return text if absolute else f"{url.rpartition('/')[0]}/{text}"


def _fetch(place: str) -> bytes:
    files, path = _opened(place)
    try:
        info = store.info_of(files, path)
        if info is None:
            raise store.missing(files, path)
        if info["type"] != "file":
            raise Reject("bad_url", f"{place!r:.200} is no file")
        if (info.get("size") or 0) > store.LARGEST_FILE:
            raise store.too_large(info["size"])
        return store.read_file(files, info)
    except Reject:
        raise
    except FileNotFoundError:
        raise store.missing(files, path) from None
    except Exception as error:
        status, _ = answer(error)
        if not store.is_web(files) or status is None or may_pass(error) or isinstance(error, OSError):
            raise
        reason = "not_permitted" if isinstance(error, SourceError) else "not_served"
        raise Reject(reason, f"{place:.200}: the server answered {status}") from error


def _opened(place: str) -> tuple[Any, str]:
    try:
        return store.open_store(place)
    except SourceError as error:
        if isinstance(error.__cause__, ValueError):
            raise Reject("bad_url", f"{place:.200}: {error.__cause__}") from None
        raise
