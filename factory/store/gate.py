"""The gate for text in Parquet cells: which places it may name. Cells are untrusted input."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import unquote, urljoin, urlsplit, urlunsplit

from actors.errors import Reject
from actors.redaction import redact
from factory.store.addresses import Reach, literal

SETTING = "source.cells.allow"

_ALIASES = {"local": "file", "s3a": "s3", "gcs": "gs", "abfss": "abfs", "az": "abfs"}
_PROTOCOLS = ("file", "http", "https", "s3", "gs", "abfs", "hf")
"""Protocols that a cell may name, besides that of its own Parquet file."""

_WEB = ("http", "https")
_DEFAULT_PORTS = {"http": 80, "https": 443}
_LONGEST = 8192
_MOST_DECODINGS = 5
_LONGEST_SHOWN = 200


@dataclass(frozen=True)
class Place:
    """Where a cell's file is, in a form that can be compared.

    Attributes:
        url: what to open: exactly what was checked.
        protocol: without aliases.
        host: of a web server, with its port where that is not the default; empty for a disk; else the bucket or the
            first part of the path.
        path: on a disk the resolved path, without links.
        name: the host of a web server without its port.
    """

    url: str
    protocol: str
    host: str
    path: str
    name: str = ""

    def within(self, folder: Place) -> bool:
        """Whether the place is `folder` or lies below it. An empty host or path of `folder` stands for all."""
        if self.protocol != folder.protocol or (folder.host and self.host != folder.host):
            return False
        base = folder.path.rstrip("/")
        return not base or self.path == base or self.path.startswith(f"{base}/")


class Gate:
    """Lets a cell reach what lies beside its own Parquet file (its folder, or below), and what the recipe allows.

    Args:
        allow: URL prefixes: a protocol (`https://`), a host, a bucket, or a folder. A host that is named here may have
            a private address.
    """

    def __init__(self, allow: Sequence[str] = ()) -> None:
        self._allow = [allowed(prefix) for prefix in allow]

    def place(self, text: str, url: str) -> Place:
        """The place that a cell names.

        Args:
            text: of the cell.
            url: of its Parquet file.

        Raises:
            Reject: `bad_url` where the text names no place, `url_not_allowed` where the cell may not reach it.
        """
        _check_text(text)
        own = _parsed(url, trusted=True)
        folder = _folder(own)
        place = _parsed(text if "://" in text or text.startswith("/") else _joined(folder, text))
        if place.protocol not in (own.protocol, *_PROTOCOLS):
            raise Reject("bad_url", f"{shown(text)} names a protocol that cells may not name")
        if leads_up(place.path if place.protocol in _WEB else text):
            raise _refused(text, "leads upwards by '..'", "cells may not, wherever they lead to")
        return self._checked(place, folder, text)

    def redirected(self, place: Place, location: str, url: str) -> Place:
        """Where a web server's redirect leads, by the same rules; see `place`."""
        target = urljoin(place.url, location)
        _check_text(target)
        protocol = target.partition("://")[0].lower()
        if protocol not in _WEB or (protocol == "http" and place.protocol == "https"):
            raise _refused(
                target,
                f"is where {shown(place.url)} redirects to, by another protocol",
                "such redirects are not followed",
            )
        return self.place(target, url)

    def is_own(self, place: Place, url: str) -> bool:
        """Whether a place lies beside the Parquet file at `url`, or below."""
        own = _parsed(url, trusted=True)
        return place.within(_folder(own))

    def reach(self, place: Place, url: str) -> Reach:
        """Which addresses the host of a web server may have, given the URL of the cell's Parquet file.

        A name is exempt only where the recipe allows it: whoever owns the name of the Parquet file's server decides
        what it resolves to. An address that the recipe writes out is what it is.
        """
        server = (place.protocol, place.host)
        named = {(one.protocol, one.host) for one in self._allow}
        own = _parsed(url, trusted=True)
        if literal(place.name) and server in {*named, (own.protocol, own.host)}:
            return Reach.ANY
        return Reach.PRIVATE if server in named else Reach.PUBLIC

    def _checked(self, place: Place, folder: Place, text: str) -> Place:
        if place.within(folder) and (folder.path.rstrip("/") or folder.protocol != "file"):
            return place
        if any(place.within(prefix) for prefix in self._allow):
            return place
        what = f"{place.protocol}://{place.host}" if place.host else place.path
        raise _refused(
            text, f"leads to {what:.{_LONGEST_SHOWN}}, which is not in the folder of the Parquet file"
        )


def allowed(prefix: str) -> Place:
    """A prefix that a recipe allows, parsed.

    Raises:
        ValueError: it is not a valid prefix; the message has the reason.
    """
    if "://" not in prefix and not prefix.startswith("/"):
        raise ValueError("write a full URL such as https://images.example.org/, or an absolute path")
    if redact(prefix) != prefix:
        raise ValueError("a prefix has no user name, password or token: recipes are published")
    protocol = prefix.partition("://")[0].lower() if "://" in prefix else "file"
    protocol = _ALIASES.get(protocol, protocol)
    if prefix.endswith("://") and protocol != "file":
        return Place(prefix, protocol, "", "")
    try:
        _check_text(prefix)
        place = _parsed(prefix)
    except Reject as why:
        raise ValueError(why.detail) from None
    if leads_up(place.path) or "*" in prefix or "?" in prefix or "#" in prefix:
        raise ValueError("a prefix has no '..', glob or query")
    return place


def shown(text: str) -> str:
    """A cell's text for a message: short, and without secrets."""
    safe = redact(text[: 20 * _LONGEST_SHOWN])
    return repr(safe if len(safe) <= _LONGEST_SHOWN else f"{safe[:_LONGEST_SHOWN]}...")


def leads_up(path: str) -> bool:
    """Whether a part of a path is `..`, however it is encoded."""
    for _ in range(_MOST_DECODINGS):
        parts = unicodedata.normalize("NFKC", path).replace("\\", "/").split("/")
        if any(part.partition(";")[0] == ".." for part in parts):
            return True
        decoded = unquote(path, errors="replace")
        if decoded == path:
            return False
        path = decoded
    return True


def _folder(own: Place) -> Place:
    return Place(own.url, own.protocol, own.host, own.path.rpartition("/")[0], own.name)


def _refused(
    text: str, why: str, rule: str = f"if it is to be read, put its prefix into {SETTING}"
) -> Reject:
    return Reject("url_not_allowed", f"{shown(text)} {why}; {rule}")


def _check_text(text: str) -> None:
    if len(text) > _LONGEST:
        raise Reject("bad_url", f"{shown(text)} has {len(text):,} characters, more than any URL or path")
    if "::" in text and not text.lower().startswith(
        ("http://", "https://")
    ):  # there an IPv6 address has them
        raise Reject("bad_url", f"{shown(text)} is a chained URL")
    if "\\" in text or any(unicodedata.category(letter) in ("Cc", "Zl", "Zp") for letter in text):
        raise Reject("bad_url", f"{shown(text)} holds a backslash or a control character")


def _joined(folder: Place, text: str) -> str:
    if folder.protocol == "file":
        return f"{folder.path}/{text}"
    return f"{folder.protocol}://{folder.host}{folder.path}/{text}"


def _parsed(text: str, *, trusted: bool = False) -> Place:
    """Args: trusted: the recipe's own URL, which may hold a user name."""
    protocol, colon, rest = text.partition("://")
    protocol = protocol.lower()
    if not colon or _ALIASES.get(protocol, protocol) == "file":
        path = rest if colon else text
        if not path.startswith("/"):
            raise Reject("bad_url", f"{shown(text)} is not an absolute path on a disk")
        folder, _, name = ("/" + path.lstrip("/")).rpartition("/")
        # The Parquet file may be a link itself, as in the cache of the hub: what lies beside the link counts.
        real = f"{os.path.realpath(folder or '/').rstrip('/')}/{name}" if trusted else os.path.realpath(path)
        return Place(real, "file", "", real)
    if protocol in _WEB:
        return _web_place(text, protocol, trusted=trusted)
    host, _, path = rest.lstrip("/").partition("/")
    return Place(text, _ALIASES.get(protocol, protocol), host, f"/{path}")


def _web_place(text: str, protocol: str, *, trusted: bool) -> Place:
    try:
        parts = urlsplit(text)
        port, name = parts.port, parts.hostname or ""
    except ValueError as error:
        raise Reject("bad_url", f"{shown(text)}: {error}") from None
    if "@" in parts.netloc and not trusted:
        raise _refused(text, "holds a user name or a password", "cells may not")
    name = unicodedata.normalize("NFKC", name).rstrip(".")
    if not name or "%" in name or any(letter.isspace() for letter in parts.netloc):
        raise Reject("bad_url", f"{shown(text)} names no host")
    bare = f"[{name}]" if ":" in name else name
    host = bare if port in (None, _DEFAULT_PORTS[protocol]) else f"{bare}:{port}"
    path = parts.path or "/"
    return Place(urlunsplit((protocol, host, path, parts.query, "")), protocol, host, path, name)
