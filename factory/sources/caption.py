"""Captions in files of their own: plain text, or a field of a JSON document."""

from __future__ import annotations

import json
from dataclasses import dataclass

from actors.errors import Reject

LARGEST_CAPTION = 1 << 20
"""Bytes above which a caption's file is not read."""


@dataclass(frozen=True)
class CaptionField:
    """Where a caption is, relative to its image.

    Attributes:
        extension: of the file, in small letters, without its leading dot.
        field: of the JSON document; None for plain text.
    """

    extension: str
    field: str | None

    @classmethod
    def parse(cls, text: str | None) -> CaptionField | None:
        """`txt` is a text file, `json:prompt` the field `prompt` of a JSON file, None no caption."""
        if text is None:
            return None
        extension, colon, field = text.partition(":")
        return cls(extension.lower(), field if colon else None)

    def read(self, data: bytes, where: str) -> str:
        """The caption in a file's bytes, without white space around it.

        A JSON null is an empty caption, and a list of strings is its strings with spaces between.

        Args:
            where: the file's name, for messages.

        Raises:
            Reject: `bad_caption`. Also for a missing field: a misspelt name would otherwise leave a whole data
                set without captions.
        """
        try:
            text = data.decode("utf-8-sig")
            caption = text if self.field is None else self._field(json.loads(text), where)
            caption.encode()  # JSON can spell lone surrogates, which neither Parquet nor a tokeniser takes
        except (ValueError, RecursionError) as error:
            kind = "UTF-8 text" if self.field is None else "JSON"
            raise Reject("bad_caption", f"{where} is not {kind}: {error}") from None
        return caption.strip()

    def _field(self, document: object, where: str) -> str:
        if not isinstance(document, dict):
            raise Reject("bad_caption", f"{where} holds a JSON {type(document).__name__}, not an object")
        if self.field not in document:
            fields = ", ".join(repr(name[:60]) for name in list(document)[:12]) or "none"
            raise Reject("bad_caption", f"{where} has no field {self.field!r}; its fields are: {fields}")
        value = document[self.field]
        if isinstance(value, list) and all(isinstance(part, str) for part in value):
            return " ".join(value)
        if value is not None and not isinstance(value, str):
            raise Reject("bad_caption", f"{where}: {self.field} is a {type(value).__name__}, not a string")
        return value or ""


def too_long(where: str, size: int) -> Reject:
    """The reject for a caption's file that is above `LARGEST_CAPTION`."""
    return Reject("bad_caption", f"{where} has {size:,} bytes; a caption's file may have {LARGEST_CAPTION:,}")
