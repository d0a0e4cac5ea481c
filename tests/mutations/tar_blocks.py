"""Tars by hand, from POSIX.1-2008 (ustar, pax) and the manual of GNU tar: `tarfile` would not write the wrong ones."""

from __future__ import annotations

from functools import cache

from tests.mutations.pictures import mask_png, plain

BLOCK = 512
END = bytes(2 * BLOCK)
SIZE, CHECKSUM = slice(124, 136), slice(148, 156)
CAPTION = b'{"prompt": "a hand"}'


def summed(header: bytes) -> bytes:
    """A header with the checksum that it should have."""
    blank = header[:148] + b" " * 8 + header[156:]
    return header[:148] + b"%06o\0 " % sum(blank) + header[156:]


def header(
    name: str | bytes,
    size: int | bytes,
    type_: bytes = b"0",
    link: bytes = b"",
    magic: bytes = b"ustar\00000",
) -> bytes:
    raw = name if isinstance(name, bytes) else name.encode("utf-8", "surrogateescape")
    field = size if isinstance(size, bytes) else b"%011o\0" % size
    fields = raw[:100].ljust(100, b"\0") + b"0000644\0" + b"0000000\0" * 2 + field + b"00000000000\0"
    fields += bytes(8) + type_ + link[:100].ljust(100, b"\0") + magic + bytes(80)
    fields = fields.ljust(BLOCK, b"\0")
    return summed(fields)


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % BLOCK)


def member(name: str | bytes, data: bytes, type_: bytes = b"0") -> bytes:
    """A regular file; a name of more than 100 bytes gets GNU's header for it."""
    raw = name if isinstance(name, bytes) else name.encode("utf-8", "surrogateescape")
    long = header("././@LongLink", len(raw) + 1, b"L") + padded(raw + b"\0") if len(raw) > 100 else b""
    return long + header(raw, len(data), type_) + padded(data)


def pax(records: bytes, type_: bytes = b"x", size: int | bytes | None = None) -> bytes:
    return header("pax", len(records) if size is None else size, type_) + padded(records)


def record(name: bytes, value: bytes) -> bytes:
    """`LENGTH NAME=VALUE` and a line's end, the length counting itself."""
    rest = b" " + name + b"=" + value + b"\n"
    length = len(rest) + 1
    while len(b"%d" % length) + len(rest) != length:
        length += 1
    return b"%d" % length + rest


@cache
def sample(stem: str) -> bytes:
    return (
        member(f"{stem}.jpg", plain("JPEG"))
        + member(f"{stem}.mask.png", mask_png())
        + member(f"{stem}.json", CAPTION)
    )


def whole(*parts: bytes) -> bytes:
    return sample("first") + b"".join(parts) + sample("last") + END
