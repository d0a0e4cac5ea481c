"""The image in a Parquet cell: its bytes, or the place where they are. Cells are untrusted input."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from socket import EAI_NONAME, gaierror
from typing import Any

from actors.errors import EncodedAnswerError, NoBucketError, Reject, SourceError, TooManyBytesError
from factory.sources import base64_text
from factory.store import remote, web
from factory.store.credentials import beside
from factory.store.gate import Gate, Place, shown
from factory.store.retries import Patience, answer, persist

WEB_PATIENCE = Patience(seconds=30.0)
"""With the web server of a single cell. That of the recipe's own files is `remote.PATIENCE`."""

_MOST_REDIRECTS = 5
LONGEST_KEY = 1024
"""Bytes of a name in a bucket, in S3, Google's and Azure's stores alike."""

_KEYED = ("s3", "gs", "abfs")
_REASONS = {401: "not_permitted", 403: "not_permitted", 404: "missing", 410: "missing"}
_BASE64_SETTING = "set source.fields.encoding to base64"


class Cells:
    """Reads what cells hold or name.

    Args:
        allow: prefixes that cells may name beside the folder of their Parquet file, see `factory.store.gate`.
        base64: text and bytes are base64, or data URLs, rather than places and images.
    """

    def __init__(self, allow: Sequence[str] = (), *, base64: bool = False) -> None:
        self._gate = Gate(allow)
        self._base64 = base64

    def bytes_in(self, cell: Any, url: str) -> bytes | None:
        """An image file's bytes; None for a cell that is null or empty.

        Args:
            cell: bytes; Hugging Face's struct, whose `bytes` count before its `path`; or text, which is an fsspec URL
                or a path that begins in the Parquet file's folder.
            url: the Parquet file's.

        Raises:
            Reject: `too_many_bytes`, `bad_cell`, `bad_url`, `base64`, `url_not_allowed`, `missing`, `not_permitted`,
                `not_served`, `timed_out`, `no_answer` or `archived`.
            SourceError: a place other than a web server may not be read, or a disk is not mounted.
            OSError: a store failed.
        """
        if isinstance(cell, Reject):
            raise cell
        if isinstance(cell, Mapping):
            cell = cell.get("path") if cell.get("bytes") is None else cell["bytes"]
        if cell is None:
            return None
        if not isinstance(cell, bytes | str):
            raise Reject("bad_cell", f"the cell holds a {type(cell).__name__}, neither bytes nor text")
        if isinstance(cell, str) and not cell.strip():
            return None
        if self._base64:
            return base64_text.decoded(cell, remote.LARGEST_FILE)
        if kind := base64_text.kind_of(cell):
            raise Reject("base64", f"the cell holds {kind} ({len(cell):,} characters); {_BASE64_SETTING}")
        if isinstance(cell, str):
            return self._fetch(cell.strip(), url)
        if len(cell) > remote.LARGEST_FILE:
            raise remote.too_large(len(cell))
        return cell

    def _fetch(self, text: str, url: str) -> bytes:
        place = self._gate.place(text, url)
        return self._from_web(place, url) if place.protocol in ("http", "https") else _from_store(place)

    def _from_web(self, place: Place, url: str) -> bytes:
        began = time.monotonic()
        for _ in range(_MOST_REDIRECTS + 1):
            found = self._request(place, url, began)
            if isinstance(found, bytes):
                return found
            place = self._gate.redirected(place, found.location, url)
        raise Reject("not_served", f"{shown(place.url)}: more than {_MOST_REDIRECTS} redirects")

    def _request(self, place: Place, url: str, began: float) -> bytes | web.Redirect:
        """One answer of a web server.

        A file that its server does not deliver within `WEB_PATIENCE` is rejected if the network is known to work: the
        server accepted the connection, or another file arrived meanwhile. Otherwise the call fails, and is retried.
        """
        full = beside(place.url, url) if self._gate.is_own(place, url) else place.url
        reach = self._gate.reach(place, url)
        try:
            return persist(partial(web.get, full, reach), place.url, WEB_PATIENCE)
        except Reject:
            raise
        except (TooManyBytesError, EncodedAnswerError) as error:
            reason = "too_many_bytes" if isinstance(error, TooManyBytesError) else "not_served"
            raise Reject(reason, str(error)) from None
        except FileNotFoundError:
            raise Reject("missing", f"{shown(place.url)}: the server has no such file") from None
        except Exception as error:  # of aiohttp
            raise _web_error(place, error, began) from error


def _web_error(place: Place, error: Exception, began: float) -> Exception:
    """What a web server's lasting error means for the item: its `Reject`, or an OSError."""
    status, _ = answer(error)
    if status is not None and status < 500 and status not in (408, 429):
        return Reject(_REASONS.get(status, "not_served"), f"{shown(place.url)}: the server answered {status}")
    if web.is_slow(error):
        return remote.timed_out(OSError(f"{shown(place.url)}: its server is too slow, or does not answer"))
    what = f"answers {status}" if status else f"cannot be reached ({type(error).__name__})"
    words = f"{shown(place.url)}: the server {what} for {WEB_PATIENCE.seconds:g} seconds"
    if status is None and _no_such_name(error):
        return Reject("no_answer", f"{shown(place.url)}: there is no such host")
    if web.received_since(began):
        return Reject("not_served" if status else "no_answer", f"{words}, while others could be read")
    return OSError(f"{words}; see whether the network is well, or leave the row out by a filter")


def _no_such_name(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, gaierror):
            return error.errno == EAI_NONAME
        error = getattr(error, "os_error", None) or error.__cause__
    return False


def _from_store(place: Place) -> bytes:
    files, path = _opened(place)
    if place.protocol in _KEYED and len(path.encode()) > LONGEST_KEY:
        raise Reject("bad_url", f"{shown(place.url)} is longer than the names in a bucket")
    try:
        info = remote.info_of(files, path)
        if info is None:
            raise _missing(files, path, place)
        if info["type"] != "file":
            raise Reject("bad_url", f"{shown(place.url)} is no file")
        if (info.get("size") or 0) > remote.LARGEST_FILE:
            raise remote.too_large(info["size"])
        return remote.read_file(files, info)
    except FileNotFoundError:
        raise _missing(files, path, place) from None
    except NoBucketError as error:
        raise Reject("missing", str(error)) from None
    except Exception as error:
        if _is_bad_name(error):
            raise Reject("bad_url", f"{shown(place.url)} is no name that its store can have") from None
        raise


def _is_bad_name(error: Exception) -> bool:
    """Whether a driver refuses a name before it looks for it; botocore is not imported for its error."""
    kinds = (ValueError, NotImplementedError)
    return isinstance(error, kinds) or type(error).__name__ == "ParamValidationError"


def _missing(files: Any, path: str, place: Place) -> Reject:
    """A cell may name any folder: that it does not exist is the item's fault. An empty one may be an unmounted disk."""
    if place.protocol != "file":
        return remote.missing(files, path)
    folder = next(parent for parent in Path(path).parents if os.path.isdir(parent))  # noqa: PTH112  # Path's raises for a long name
    if not any(folder.iterdir()):
        raise SourceError(f"{folder} is empty, and a cell names a file in it; is a disk not mounted?")
    return Reject("missing", f"{shown(path)}: there is no such file")


def _opened(place: Place) -> tuple[Any, str]:
    try:
        return remote.open_store(place.url)
    except SourceError as error:
        if isinstance(error.__cause__, ValueError):
            raise Reject("bad_url", f"{shown(place.url)} is not a URL that can be opened") from None
        raise
