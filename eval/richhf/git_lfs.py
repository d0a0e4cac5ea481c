"""Git LFS pointers: small text files that a clone without `git lfs` has in place of the data."""

from __future__ import annotations

from actors.errors import SourceError
from factory.store import remote

_BEGINNING = b"version http"
"""As many bytes as the header of a TFRecord has."""

_LARGEST = 1024
"""Bytes of a pointer, by the specification of Git LFS."""


def refuse_pointer(beginning: bytes, where: str) -> None:
    """Raises SourceError where the first 12 bytes of a file are those of a pointer."""
    if beginning.startswith(_BEGINNING):
        raise SourceError(
            f"{where} is a Git LFS pointer, a small text file in place of the data: run git lfs pull in its "
            "repository, or download the file itself"
        )


def refuse_pointer_file(url: str, info: remote.Info) -> None:
    """As `refuse_pointer`, for a file that was not opened yet.

    Args:
        url: of the file.
        info: the file as its store reports it.
    """
    size = info.get("size") or 0
    if len(_BEGINNING) <= size < _LARGEST:
        files, path = remote.open_store(url)
        refuse_pointer(remote.read_bytes(files, path, 0, len(_BEGINNING)), url)
