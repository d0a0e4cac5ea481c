"""A large JSON file from outside, taken apart without decoding it whole: only its elements are decoded, one at a time.

Python's objects take about eight times the bytes of a JSON with polygons, so that a whole COCO file would take
gigabytes. Here the memory is that of the file and of one element.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Generator, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from actors.errors import Reject, SourceError
from factory.store import remote
from factory.store.paths import url_of

LARGEST_JSON = 1 << 30
"""Bytes of a file; it is in memory while it is imported."""

LARGEST_ELEMENT = 64 << 20
"""Bytes of an image's or an annotation's object; decoded, it may take ten times as much."""

_SPACE = re.compile(rb"[ \t\r\n]*+")
_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"', re.DOTALL)
# The last quote alone is that of a string without an end. Every alternative begins with a literal, which is fast.
_TOKEN = re.compile(rb'"(?:[^"\\]++|\\.)*+"|"|\[|\]|\{|\}', re.DOTALL)
_SCALAR = re.compile(rb"[-+.\w]++")
_OTHERS = {
    b"PK\3\4": "a zip archive: unpack it",
    b"\x1f\x8b": "compressed with gzip: unpack it",
    b"version https://git-lfs": "a Git LFS pointer: run git lfs pull",
    b"<": "HTML or XML; CVAT also exports XML: export as COCO 1.0",
    b"\xff\xfe": "UTF-16: save it as UTF-8",
    b"\xfe\xff": "UTF-16: save it as UTF-8",
}
"""Kinds of files that are no JSON, by their first bytes."""


class Element(NamedTuple):
    """An object in an array at the top of a file.

    Attributes:
        where: its place in words, such as `annotations[17]`.
        start, end: of its bytes.
    """

    where: str
    start: int
    end: int


@dataclass(frozen=True)
class JsonFile:
    """A file in memory.

    Attributes:
        url: of the file, without secrets.
        version: its state, see `factory.store.remote.version_of`.
        data: its bytes, without a byte order mark.
    """

    url: str
    version: str
    data: bytes

    @classmethod
    def read(cls, url: str) -> JsonFile:
        """Reads a file.

        Raises:
            SourceError: it is missing, too large, or no JSON.
        """
        files, path = remote.open_store(url)
        public = url_of(files, path)
        info = remote.info_of(files, path)
        if info is None or info["type"] != "file":
            raise SourceError(f"{public}: there is no such file; name the JSON file with the annotations")
        size = info.get("size") or 0
        if size > LARGEST_JSON:
            raise SourceError(
                f"{public} has {size:,} bytes; at most {LARGEST_JSON:,} are read: split it by images"
            )
        try:
            data = remote.read_file(files, info)
        except Reject as why:
            raise SourceError(f"{public} cannot be read: {why.detail}") from None
        except FileNotFoundError:
            raise remote.gone(public) from None
        data = data.removeprefix(b"\xef\xbb\xbf")
        kind = next((kind for start, kind in _OTHERS.items() if data.startswith(start)), None)
        if kind or not data.strip():
            raise SourceError(f"{public} is {kind or 'empty'}")
        return cls(public, remote.version_of(info), data)

    @property
    def is_array(self) -> bool:
        """Whether its value is an array, and not an object."""
        return self._next(0)[1] == b"["

    def elements(self, names: Collection[str]) -> Iterator[tuple[str, Element]]:
        """Streams the objects in the arrays with these names in the object at the top, in the order of the file.

        Raises:
            SourceError: it is no such JSON; the message states where.
        """
        at, token = self._next(0)
        if token != b"{":
            raise self._wrong(at, "it begins with no object")
        seen: set[str] = set()
        at, token = self._next(at + 1)
        while token != b"}":
            key = _STRING.match(self.data, at)
            if key is None:
                raise self._wrong(at, "a key is expected")
            name = self._decoded(key.start(), key.end(), "a key")
            at, token = self._next(key.end())
            if token != b":":
                raise self._wrong(at, "a colon is expected")
            at, token = self._next(at + 1)
            if name in names and token == b"[":
                if name in seen:
                    raise self._wrong(at, f"{name} is there twice")
                seen.add(name)
                at = yield from self._array(at, name)
            else:
                at = self._skipped(at)
            at, token = self._following(at, b"}")

    def array(self) -> Iterator[Element]:
        """Streams the objects of the array at the top; raises as `elements` does."""
        at, _ = self._next(0)
        for _, element in self._array(at, ""):
            yield element

    def decode(self, element: Element) -> dict[str, Any]:
        """The object of an element.

        Raises:
            SourceError: it is no JSON object.
        """
        document = self._decoded(element.start, element.end, element.where)
        assert isinstance(document, dict)  # it begins with a brace
        return document

    def _array(self, at: int, name: str) -> Generator[tuple[str, Element], None, int]:
        """Yields the elements of the array at a place; returns the place after it."""
        number = 0
        at, token = self._next(at + 1)
        while token != b"]":
            where = f"{name}[{number}]"
            if token != b"{":
                raise self._wrong(at, f"{where} is no object")
            end = self._end(at, where, at + LARGEST_ELEMENT)
            yield name, Element(where, at, end)
            number += 1
            at, token = self._following(end, b"]")
        return at + 1

    def _next(self, at: int) -> tuple[int, bytes]:
        """Where the next byte is that is no white space, and the byte."""
        space = _SPACE.match(self.data, at)
        assert space is not None
        return space.end(), self.data[space.end() : space.end() + 1]

    def _following(self, at: int, closing: bytes) -> tuple[int, bytes]:
        """The place behind a comma, or that of the closing bracket."""
        at, token = self._next(at)
        if token == closing:
            return at, token
        if token != b",":
            raise self._wrong(at, f"a comma or {closing.decode()} is expected")
        at, token = self._next(at + 1)
        if token == closing:
            raise self._wrong(at, "nothing follows a comma")
        return at, token

    def _skipped(self, at: int) -> int:
        """The end of the value at a place, which is not decoded."""
        if self.data[at : at + 1] in (b"[", b"{"):
            return self._end(at, "a value", len(self.data))
        found = _STRING.match(self.data, at) or _SCALAR.match(self.data, at)
        if found is None:
            raise self._wrong(at, "a value is expected")
        return found.end()

    def _end(self, start: int, where: str, most: int) -> int:
        """The end of the object or array at a place."""
        depth = 0
        for token in _TOKEN.finditer(self.data, start, most):
            if token[0] in (b"[", b"{"):
                depth += 1
            elif token[0] in (b"]", b"}"):
                depth -= 1
                if not depth:
                    return token.end()
            elif token[0] == b'"':
                break
        if most < len(self.data):
            raise self._wrong(start, f"{where} has more than {LARGEST_ELEMENT:,} bytes")
        raise self._wrong(start, f"{where} has no end: the file is cut off, or damaged")

    def _decoded(self, start: int, end: int, where: str) -> Any:
        try:
            return json.loads(self.data[start:end].decode())
        except (ValueError, RecursionError) as error:
            raise self._wrong(start, f"{where} is no JSON: {error}") from None

    def _wrong(self, at: int, what: str) -> SourceError:
        return SourceError(f"{self.url}, byte {at:,}: {what}; export the annotations again")
