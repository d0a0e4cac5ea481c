"""Takes secrets out of URLs and of text with URLs in it. Whatever is published or printed goes through here.

A signature, a token or a password in a URL must not reach an output, a log or a message. Renewing it must not change a
data set's identity either, so that a redacted URL has nothing in it that a renewal changes.
"""

from __future__ import annotations

import re
from urllib.parse import unquote_plus

_HARMLESS = re.compile(
    r"alt|dl|download|export|file(?:name)?|format|generation|height|h|id|index|name|p|page|part|path|raw|ref|revision|"
    r"row|size|version(?:id)?|width|w",
    re.IGNORECASE,
)
"""Parameters of a query that select the content. All others of a web address may be secret, or change with time."""

_SECRET = (
    r"(?:x-(?:amz|goog|oss|cos|ms)-[\w-]+|awsaccesskeyid|googleaccessid|ossaccesskeyid|key-pair-id|policy|expires|"
    r"sig|signature|hdnea|hdnts|\w*token\w*|\w*secret\w*|\w*passw\w*|pwd|\w*api_?key|access_?key\w*|auth\w*|"
    r"credentials?|jwt|session\w*|bearer|sas|code|key)"
)
_SECRET_NAME = re.compile(_SECRET, re.IGNORECASE)
_PARAMETER = re.compile(rf"([?&;#]{_SECRET}=)[^\s&;\"'<>]+", re.IGNORECASE)
_URL = re.compile(r"(?<![\w+.-])([a-z][\w+.-]*)(://)([^\s\"'<>]+)", re.IGNORECASE)
_HUB_TOKEN = re.compile(r"\b(?:hf|api_org)_[A-Za-z0-9]{16,}\b")
_WEB = ("http", "https")
_LOGIN_ALONE = (*_WEB, "ftp", "ftps", "sftp", "ssh", "webdav", "webhdfs", "smb", "git", "hf")
"""Protocols in which a user name alone may be a token; in others, such as `abfs://container@account`, it is a place."""

HIDDEN = "[hidden]"


def redact(url: str) -> str:
    """A URL without user name, password, fragment, and those parameters of its query that may be secret.

    Paths on a disk and URLs without secrets stay as they are. A redacted URL stays as it is.
    """
    protocol, colon, rest = url.partition("://")
    if not colon or not re.fullmatch(r"[A-Za-z][\w+.-]*", protocol):
        return url
    end = re.search(r"[/?#]", rest)
    host, rest = (rest[: end.start()], rest[end.start() :]) if end else (rest, "")
    login, at, place = host.rpartition("@")
    if at and (protocol.lower() in _LOGIN_ALONE or ":" in login):
        host = place
    return f"{protocol}://{host}{_without_secrets(rest, is_web=protocol.lower() in _WEB)}"


def scrub(text: str) -> str:
    """Text such as an error of a library, with its URLs redacted, and with what looks like a token hidden."""
    if "://" in text:
        text = _URL.sub(_redacted, text)
    if "=" in text:
        text = _PARAMETER.sub(rf"\1{HIDDEN}", text)
    return _HUB_TOKEN.sub(HIDDEN, text) if "_" in text else text


def _redacted(found: re.Match[str]) -> str:
    url = found[0].rstrip(":;,.)")
    return redact(url) + found[0][len(url) :]


def _without_secrets(rest: str, *, is_web: bool) -> str:
    """Path, query and fragment. Bucket keys may hold `?` and `#`, so only what is named as a secret goes."""
    path, question, query = rest.partition("?")
    if is_web:
        path, query = path.partition("#")[0], query.partition("#")[0]
    names = [unquote_plus(part.partition("=")[0]) for part in re.split("[&;]", query)]
    if not is_web and not any(map(_SECRET_NAME.fullmatch, names)):
        return f"{path}{question}{query}"
    kept = [
        part for part, name in zip(re.split("[&;]", query), names, strict=True) if _HARMLESS.fullmatch(name)
    ]
    return f"{path}?{'&'.join(kept)}" if kept else path
