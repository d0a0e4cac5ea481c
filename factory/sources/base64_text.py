"""Images as base64, alone or in data URLs (RFC 2397): how a column that holds them is recognised and decoded."""

from __future__ import annotations

import binascii
import re
from base64 import b64decode

from actors.errors import Reject

_DATA_URL = re.compile(rb"data:[\w.+/-]*(?:;[\w.+-]+=[^;,]*)*(;base64)?,", re.IGNORECASE)
_IMAGES = (b"/9j/", b"_9j_", b"iVBORw0KGg", b"UklGR", b"R0lGOD")
"""How JPEG, PNG, WebP and GIF begin in base64; the second in the alphabet for URLs."""

_FEWEST = 64
_TO_STANDARD = bytes.maketrans(b"-_", b"+/")
_WHITE = b" \t\r\n\v\f"


def kind_of(cell: str | bytes) -> str:
    """What a cell holds, in words, if it is a data URL or looks like an image in base64; else empty."""
    head = _ascii(cell[:_FEWEST]).lstrip()
    if head[:5].lower() == b"data:":
        return "a data URL"
    if head.startswith(_IMAGES) and len(cell) >= _FEWEST:
        return "base64"
    return ""


def decoded(cell: str | bytes, largest: int) -> bytes:
    """The bytes that base64, or a data URL of it, stands for.

    White space, missing padding and the URL-safe alphabet are accepted; anything else that is not base64 is refused.

    Raises:
        Reject: `bad_cell`, without any of the cell's text; `too_many_bytes`.
    """
    if len(cell) * 3 // 4 > largest + 3:
        raise Reject(
            "too_many_bytes", f"base64 of about {len(cell) * 3 // 4:,} bytes; at most {largest:,} are read"
        )
    text = _ascii(cell).strip()
    if text[:5].lower() == b"data:":
        head = _DATA_URL.match(text)
        if head is None or head[1] is None:
            raise Reject("bad_cell", "the cell is a data URL that is not in base64")
        text = text[head.end() :]
    text = text.translate(_TO_STANDARD, _WHITE).rstrip(b"=")
    try:
        data = b64decode(text + b"=" * (-len(text) % 4), validate=True)
    except binascii.Error:
        detail = f"the cell's {len(cell):,} characters are not base64, which source.fields.encoding asks for"
        raise Reject("bad_cell", detail) from None
    if len(data) > largest:
        raise Reject("too_many_bytes", f"the file has {len(data):,} bytes; at most {largest:,} are read")
    return data


def _ascii(cell: str | bytes) -> bytes:
    """Text as bytes; characters beyond ASCII become `?`, which base64 does not have."""
    return cell.encode("ascii", "replace") if isinstance(cell, str) else cell
