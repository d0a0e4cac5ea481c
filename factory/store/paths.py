"""Parts of paths on a store. Those of web servers are whole URLs, and may have a query."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit, urlunsplit

from actors.redaction import redact


def url_of(files: Any, path: str) -> str:
    """The full URL of a file, without secrets: for plans and for messages."""
    return redact(str(files.unstrip_protocol(path)))


def name_of(path: str) -> str:
    """The last part of a path, or of a web address; of its query, only where the path before it names no file."""
    if "://" not in path:
        return path.rpartition("/")[2]
    public = redact(path)
    name = urlsplit(public).path.rpartition("/")[2]
    return name if "." in name else public.rpartition("/")[2]


def sibling(path: str, name: str) -> str:
    """The path of another file in the folder of a file. A web address keeps its query, which may sign both."""
    if "://" not in path:
        return f"{path.rpartition('/')[0]}/{name}"
    parts = urlsplit(path)
    return urlunsplit(parts._replace(path=f"{parts.path.rpartition('/')[0]}/{name}"))
