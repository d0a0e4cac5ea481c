"""Gives redacted URLs their secrets back when they are opened.

Plans, keys and messages hold redacted URLs (see `actors.redaction`). The recipe, which workers get in memory, holds the
secrets; a source hands its URLs in here when it is opened, in every process.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import urlsplit, urlunsplit

from actors.errors import SourceError
from actors.redaction import redact

_RANGE = r"\{(\d+)\.\.(\d+)\}"
_TOKENS = re.compile(rf"{_RANGE}|\{{([^{{}}]*,[^{{}}]*)\}}|(\*\*)|(\*)|(\?)|(\[[^\]]+\])")

_exact: dict[str, str] = {}
_patterns: dict[str, tuple[re.Pattern[str], list[range], str]] = {}
"""By redacted URL, as written in the recipe: what it stands for, the bounds of its ranges, and the URL itself."""


def remember(urls: Iterable[str]) -> None:
    """Takes the secrets of a source's URLs; later ones replace earlier ones of the same place.

    Raises:
        SourceError: two URLs differ only in their secrets, so that a plan could not distinguish them.
    """
    seen: dict[str, str] = {}
    for url in urls:
        public = redact(url)
        if seen.setdefault(public, url) != url:
            raise SourceError(
                f"source.urls names {public} twice, with other parameters or another user: these are not published, "
                "and the plan could not distinguish the two; give one of them, or serve them under other paths"
            )
        if public == url:
            continue
        if _TOKENS.search(public):
            pattern, bounds = _pattern(public)
            _patterns[public] = (pattern, bounds, url)
        _exact[public] = url


def reveal(url: str) -> str:
    """The URL to open, for one that may be redacted: with the user and the query of the recipe's URL that led to it."""
    if "://" not in url or not _exact:
        return url
    if url in _exact:
        return _exact[url]
    for public, secret in _exact.items():
        if public not in _patterns and url.startswith(f"{public.rstrip('/')}/"):
            return _with_secrets(url, secret)
    for pattern, bounds, secret in _patterns.values():
        found = pattern.fullmatch(url)
        if found and all(int(number) in bound for number, bound in zip(found.groups(), bounds, strict=True)):
            return _with_secrets(url, secret)
    return url


def beside(url: str, own: str) -> str:
    """The URL of a file beside another, with the user name and password that the other is opened with."""
    revealed = reveal(own)
    return url if revealed == own else _with_secrets(url, revealed.partition("?")[0])


def _with_secrets(url: str, secret: str) -> str:
    """The user of `secret` for a place below it, and its query for a file that its braces stand for."""
    _, _, rest = secret.partition("://")
    protocol, _, place = url.partition("://")
    login, at, _ = re.split(r"[/?#]", rest, maxsplit=1)[0].rpartition("@")
    user = f"{login}{at}" if redact(f"{protocol}://{login}{at}x/") == f"{protocol}://x/" else ""
    query = urlsplit(secret).query if urlsplit(secret).scheme in ("http", "https") else ""
    parts = urlsplit(f"{protocol}://{user}{place}")
    return urlunsplit(parts._replace(query=query)) if query else f"{protocol}://{user}{place}"


def _pattern(public: str) -> tuple[re.Pattern[str], list[range]]:
    """What a URL with braces and globs stands for, and all below it."""
    written, bounds, end = "", [], 0
    for found in _TOKENS.finditer(public):
        first, last, words, deep, star, one, characters = found.groups()
        written += re.escape(public[end : found.start()])
        if first:
            bounds.append(range(int(first), int(last) + 1))
        written += (
            r"(\d+)" * bool(first)
            or (words is not None and f"(?:{'|'.join(map(re.escape, words.split(',')))})")
            or (deep and ".*")
            or (star and "[^/]*")
            or (one and (r"\?" if public.startswith("http") else "[^/]"))
            or characters.replace("[!", "[^")
        )
        end = found.end()
    written += re.escape(public[end:].rstrip("/"))
    return re.compile(rf"{written}(?:[/?].*)?"), bounds
